"""The calibration of `p_unrecognized_blend` on simulated tiles."""
