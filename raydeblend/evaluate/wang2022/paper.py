"""What Wang et al. (2022) print."""

from __future__ import annotations

from collections.abc import Mapping

PAPER = "Wang et al. 2022"
# Table II: PSNR mean and median in dB, SSIM mean and median, by (galaxies, galaxy).
PAPER_SCORES: Mapping[tuple[int, int], tuple[float, float, float, float]] = {
    (2, 1): (56.51, 57.93, 0.9973, 0.9997),
    (2, 2): (58.18, 59.02, 0.9967, 0.9997),
    (3, 1): (54.66, 57.19, 0.9954, 0.9997),
    (3, 2): (55.96, 58.77, 0.9929, 0.9996),
    (3, 3): (57.71, 59.29, 0.9956, 0.9995),
}
# Table I: fractions of high, medium and low quality, by number of galaxies.
PAPER_QUALITY: Mapping[int, tuple[float, float, float]] = {
    2: (0.773, 0.153, 0.074),
    3: (0.504, 0.369, 0.127),
}
