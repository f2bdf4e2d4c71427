"""What was tuned in the autoencoder's deblender besides its network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VaeConfig:
    """Where galaxies are sought, how they are moved in latent space, and how a blend is rated.

    Attributes
    ----------
    max_sources
        Most peaks of one stamp, the highest; there are rarely more than a handful.
    apart
        Pixels from the known peaks within which a residual is theirs.
    residual_error
        Error of a first model, as a part of its light: what it may leave is no galaxy.
    own_radius
        Pixels from the middle within which a peak is the centered galaxy's own: noise displaces
        that of a large and faint one.
    directions
        Number of directions of latent space along which galaxies move; the others change next to
        nothing.
    max_step
        Longest step along one direction; galaxies scatter by a third of it.
    model_error
        Error of a decoded pixel, as a part of its light: it keeps cores from outweighing all else.
    high_chi2, medium_chi2
        Largest reduced chi squared, where the models are brighter than the noise, of each quality.
    """

    max_sources: int = 12
    apart: float = 4.0
    residual_error: float = 0.4
    own_radius: float = 5.0
    directions: int = 16
    max_step: float = 1.5
    model_error: float = 0.05
    high_chi2: float = 1.5
    medium_chi2: float = 3.0


VAE = VaeConfig()
