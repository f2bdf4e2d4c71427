"""The joint fit as compiled code: one blend after the other, each from start to end in one call.

``kernel.py`` descends, ``evaluation.py`` is the model with its normal equations, ``gaussians.py``
draws, ``linear.py`` solves, ``prior.py`` is the prior, ``score.py`` the score test; ``blend.py`` is
what goes in, ``cache.py`` how and where all of it is compiled.
"""
