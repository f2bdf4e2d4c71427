"""Which of the user's bands stands for each of a network's."""

import pytest

from raydeblend.deblend.bands import choose_bands


@pytest.mark.parametrize(
    ("given", "n", "expected"),
    [
        (("g", "r", "i"), 3, [0, 1, 2]),
        (("i", "g", "r"), 3, [1, 2, 0]),
        (("g", "r", "i", "z", "y"), 5, [0, 1, 2]),
        (("r", "z"), 2, [0, 0, 1]),
        (None, 3, [0, 1, 2]),
        (None, 1, [0, 0, 0]),
    ],
)
def test_bands_are_found_by_name_or_by_wavelength(
    given: tuple[str, ...] | None, n: int, expected: list[int]
) -> None:
    assert choose_bands(given, n, ("g", "r", "i")) == expected
