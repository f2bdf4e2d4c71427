"""Ellipses on pixels and on the sky against the lengths and directions of their axes."""

import numpy as np
import pytest

from raydeblend.ellipses import PixelEllipses, SkyEllipses

SCALE = 0.2
MIRRORED, UPRIGHT = np.array([[-1.0, 0.0], [0.0, 1.0]]), np.eye(2)


def turned(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s], [s, c]])


@pytest.mark.parametrize("parity", [MIRRORED, UPRIGHT])
@pytest.mark.parametrize("roll", [0.0, 25.0, 140.0])
def test_the_major_axis_points_where_the_pixels_point(parity: np.ndarray, roll: float) -> None:
    """An ellipse of axes 4 and 1 pixels at 35 degrees from +x towards +y."""
    modulus, angle = (1 - 0.25) / (1 + 0.25), np.radians(35)
    shape = PixelEllipses(
        np.array([2.0]), *(np.array([modulus * f(2 * angle)]) for f in (np.cos, np.sin))
    )
    jacobian = SCALE * turned(roll) @ parity
    seen = SkyEllipses.of_pixels(shape, jacobian[None])
    east, north = jacobian @ [np.cos(angle), np.sin(angle)]
    assert seen.radius == pytest.approx(2 * SCALE)
    assert seen.ratio == pytest.approx(0.25)
    assert seen.angle == pytest.approx(np.degrees(np.arctan2(east, north)) % 180)
    back = PixelEllipses.of_sky(seen, jacobian[None])
    for name in ("radius", "g1", "g2"):
        assert getattr(back, name) == pytest.approx(getattr(shape, name)), name


def test_a_circle_on_stretched_pixels_is_none_on_the_sky() -> None:
    """Pixels twice as long towards north as towards east."""
    circle = PixelEllipses(np.ones(1), np.zeros(1), np.zeros(1))
    seen = SkyEllipses.of_pixels(circle, np.diag([0.1, 0.2])[None])
    values = [float(each[0]) for each in (seen.radius, seen.ratio, seen.angle)]
    assert values == pytest.approx([0.1 * 2**0.5, 0.5, 0.0])


def test_what_is_not_known_stays_so() -> None:
    nothing = PixelEllipses(*np.full((3, 1), np.nan))
    seen = SkyEllipses.of_pixels(nothing, np.eye(2)[None])
    assert np.isnan([seen.radius, seen.ratio, seen.angle]).all()
