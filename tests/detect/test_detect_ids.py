import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydeblend.detect.ids import source_id

pixels = st.integers(0, (1 << 17) - 1)


@given(st.text(), pixels, pixels)
def test_identifiers_fit_int64_and_hold_the_pixel(name, y, x):
    number = source_id(name, y, x)
    assert 0 <= number < 1 << 63
    assert (number >> 17 & (1 << 17) - 1, number & (1 << 17) - 1) == (y, x)


def test_identifiers_never_change():
    # Catalogs of earlier versions hold these numbers.
    assert source_id("9813,4,5", 100, 200) == 5217040390133645512
    assert source_id("9813,4,5", 100, 200) != source_id("9813,4,6", 100, 200)


@pytest.mark.parametrize(("y", "x"), [(-1, 0), (0, 1 << 17)])
def test_pixels_without_identifier(y, x):
    with pytest.raises(ValueError, match="no identifier"):
        source_id("t", y, x)
