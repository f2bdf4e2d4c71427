"""What a deblender returns, as a notebook shows it."""

import numpy as np
import pytest

from raydeblend.tile import Deblended


@pytest.fixture
def result() -> Deblended:
    models = np.zeros((2, 3, 2, 24, 30), np.float32)
    models[0, 0, :, 3, 4], models[0, 1, :, 5, 6] = (5, 7), (1, 2)
    models[1, 0, :, 2, 2] = 4, 0
    models[1, 0, 0, 2, 3] = 1
    xy = np.full((2, 3, 2), np.nan, np.float32)
    xy[0, :2], xy[1, 0] = [(4, 3), (6, 5)], (2, 2)
    extra = {"flux": np.ones((2, 3, 2)), "T": np.arange(6.0).reshape(2, 3), "p_blend": np.ones(2)}
    return Deblended(models, np.array([2, 1]), xy, np.array(["high", "low"]), extra)


def test_it_is_shown_on_one_line(result: Deblended) -> None:
    assert repr(result) == "<Deblended: 3 sources in 2 stamps of 2 x 24 x 30; 1 high, 1 low>"


def test_it_is_a_table_of_one_row_a_source(result: Deblended) -> None:
    table = result.table(("g", "i"))
    assert table.colnames == ["stamp", "source", "x", "y", "flux_g", "flux_i", "quality", "T"]
    assert table["stamp"].tolist() == [0, 0, 1]
    assert table["source"].tolist() == [0, 1, 0]
    assert table["x"].tolist() == [4, 6, 2]
    assert table["flux_g"].tolist() == [5, 1, 5]
    assert table["flux_i"].tolist() == [7, 2, 0]
    assert table["quality"].tolist() == ["high", "high", "low"]
    assert table["T"].tolist() == [0, 1, 3]
    assert result.table().colnames[4:6] == ["flux_0", "flux_1"]
    with pytest.raises(ValueError, match="3 names were given for 2 bands"):
        result.table(("g", "r", "i"))


def test_it_is_a_figure_of_images_and_models(result: Deblended) -> None:
    n, k, *stamp = result.models.shape
    alone = result.plot()
    assert len(alone.axes) == n * (1 + k)
    # As IPython asks for it.
    assert alone._repr_png_().startswith(b"\x89PNG")
    images = result.models.sum(axis=1) + np.random.default_rng(0).normal(size=(n, *stamp))
    figure = result.plot(images, most=1)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["image", "residual", "models", "source 1"]
    assert figure.axes[0].get_ylabel() == f"0: {result.n_sources[0]} sources, {result.quality[0]}"
    with pytest.raises(ValueError, match="the models want"):
        result.plot(images[:, :1])
