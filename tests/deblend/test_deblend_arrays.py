import numpy as np
import pytest
from astropy import units as u

import raydeblend
from raydeblend.deblend.arrays import AnyUnit, deblend_file, parse_stamps, read_npz
from raydeblend.deblend.sep import SepDeblender
from raydeblend.errors import ConfigError
from raydeblend.tile import Deblended


def stamps(n=2, bands=3, size=48):
    """Two bright Gaussian sources per stamp, noise 1."""
    yy, xx = np.mgrid[:size, :size]
    image = sum(
        flux * np.exp(-((xx - x) ** 2 + (yy - 24) ** 2) / 8) for x, flux in ((14, 100), (34, 50))
    )
    noise = np.random.default_rng(1).normal(size=(n, bands, size, size))
    return (image + noise).astype(np.float32)


def valid(**changes):
    arrays = {
        "images": stamps(),
        "variance": np.ones((2, 3, 48, 48)),
        "mask": np.zeros((2, 48, 48), dtype=bool),
        "psf": np.ones((3, 5, 5)),
        "pixel_scale": np.array(0.2),
        "bands": np.array(["g", "r", "i"]),
    }
    arrays.update(changes)
    return {name: array for name, array in arrays.items() if array is not None}


def run(tmp_path, **changes):
    np.savez(tmp_path / "in.npz", **valid(**changes))
    deblend_file(str(tmp_path / "in.npz"), str(tmp_path / "out.npz"), SepDeblender())
    with np.load(tmp_path / "out.npz", allow_pickle=False) as out:
        return dict(out)


def test_writes_the_fixed_layout(tmp_path):
    out = run(tmp_path)
    k = out["models"].shape[1]
    assert set(out) == {"models", "n_sources", "xy", "quality"}
    assert out["models"].shape == (2, k, 3, 48, 48)
    assert out["n_sources"].max() == k >= 2
    np.testing.assert_allclose(out["xy"][:, :2, 0], [[14, 34], [14, 34]], atol=0.3)
    assert set(out["quality"]) == {"medium"}


def test_images_alone_are_enough(tmp_path):
    out = run(tmp_path, variance=None, mask=None, psf=None, pixel_scale=None, bands=None)
    np.testing.assert_allclose(out["xy"][:, :2, 0], [[14, 34], [14, 34]], atol=0.3)


@pytest.mark.parametrize("unit", [1e-30, 1e-6, 57.544, 1e15])
def test_models_are_in_the_unit_of_the_input(tmp_path, unit):
    reference = run(tmp_path)["models"]
    images = stamps().astype(np.float64) * unit
    out = run(tmp_path, images=images, variance=np.full(images.shape, unit**2))
    np.testing.assert_allclose(out["models"], reference * unit, rtol=1e-4)


def test_weights_are_inverse_variance(tmp_path):
    first = run(tmp_path, variance=np.full((2, 3, 48, 48), 4.0))
    second = run(tmp_path, variance=None, weights=np.full((2, 3, 48, 48), 0.25))
    np.testing.assert_array_equal(first["models"], second["models"])


def test_non_finite_pixels_and_zero_weights_become_masked():
    images = stamps()
    images[0, 1, 10, 11] = np.nan
    images[1, 0, 5, 6] = np.inf
    weights = np.ones(images.shape)
    weights[0, 2, 20, 21] = 0
    parsed = parse_stamps(valid(images=images, variance=None, weights=weights))
    assert np.argwhere(parsed.mask).tolist() == [[0, 1, 10, 11], [0, 2, 20, 21], [1, 0, 5, 6]]
    assert np.isfinite(parsed.images).all()
    assert np.all(np.isfinite(parsed.variance) & (parsed.variance > 0))


def test_a_band_without_pixels_masks_nothing_in_the_others():
    images = stamps()
    images[0, 1] = np.nan
    mask = parse_stamps(valid(images=images)).mask
    assert mask[0, 1].all()
    assert mask.sum() == mask[0, 1].size


def test_all_nan_is_all_masked_and_finds_nothing(tmp_path):
    out = run(tmp_path, images=np.full((2, 3, 48, 48), np.nan))
    assert out["n_sources"].tolist() == [0, 0]
    assert out["quality"].tolist() == ["none", "none"]


def test_psf_is_normalized():
    np.testing.assert_allclose(parse_stamps(valid()).psf.sum(axis=(1, 2)), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": None}, "no array 'images'"),
        ({"images": None, "blend2": stamps()}, "evaluation set"),
        ({"images": stamps()[0]}, r"shape \(n, bands, y, x\)"),
        ({"images": stamps()[:0]}, r"shape \(n, bands, y, x\)"),
        ({"images": stamps()[..., :20]}, "24 to 256"),
        ({"images": np.zeros((1, 1, 24, 257))}, "24 to 256"),
        ({"images": np.full((2, 3, 48, 48), "a")}, "real numbers"),
        ({"variance": np.ones((2, 3, 48, 47))}, "variance has shape"),
        ({"weights": np.ones((2, 3, 48, 48))}, "not both"),
        ({"mask": np.zeros((2, 2, 48, 48))}, "mask has shape"),
        ({"psf": np.ones((2, 5, 5))}, "psf has shape"),
        ({"psf": np.ones((3, 4, 5))}, "odd sides"),
        ({"psf": np.zeros((3, 5, 5))}, "positive sum"),
        ({"bands": np.array(["g", "r"])}, "names 2 bands"),
        ({"pixel_scale": np.array(-1.0)}, "pixel_scale"),
    ],
)
def test_bad_arrays_are_said_in_one_sentence(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        parse_stamps(valid(**changes))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="no file"):
        read_npz(str(tmp_path / "missing.npz"))
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(ConfigError, match="not an npz"):
        read_npz(str(tmp_path / "text.npz"))
    np.savez(tmp_path / "objects.npz", images=np.array([{}], dtype=object))
    with pytest.raises(ConfigError, match="not an npz"):
        read_npz(str(tmp_path / "objects.npz"))
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(ConfigError, match="not an npz"):
        read_npz(str(tmp_path / "single.npy"))


def test_an_output_that_cannot_be_written_is_found_before_any_work(tmp_path):
    np.savez(tmp_path / "in.npz", **valid())
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="write"):
        deblend_file(str(tmp_path / "in.npz"), str(tmp_path / "file" / "out.npz"), None)


def call(**changes):
    return AnyUnit(SepDeblender())(**valid(**changes))


@pytest.mark.parametrize("unit", [1e-45, 1e-30, 1e30])
def test_the_api_takes_any_unit(unit):
    reference = call()
    result = call(images=stamps() * np.float64(unit), variance=np.full((2, 3, 48, 48), unit**2))
    assert result.n_sources.tolist() == reference.n_sources.tolist() == [2, 2]
    np.testing.assert_allclose(result.models / unit, reference.models, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        np.asfortranarray,
        lambda images: images.astype(">f4"),
        lambda images: images.astype(np.float64),
        lambda images: images.tolist(),
        lambda images: images[::-1][::-1],
    ],
)
def test_the_api_takes_any_order_and_type(change):
    np.testing.assert_allclose(call(images=change(stamps())).models, call().models, atol=1e-5)


def test_half_floats_and_whole_numbers():
    for kind in (np.float16, np.int16, np.int64):
        assert call(images=np.round(stamps()).astype(kind)).n_sources.tolist() == [2, 2]


def test_masked_pixels_are_not_used():
    """What lies below a mask changes nothing, even if it is huge."""
    hidden = np.zeros((2, 3, 48, 48), bool)
    hidden[0, :, 5:8, 5:8] = True
    images = stamps()
    images[hidden] = 1e30
    expected = call(mask=hidden[:, 0])
    for changes in (
        {"images": np.ma.masked_array(images, hidden)},
        {"images": np.where(hidden, np.nan, images)},
        {"images": images, "variance": np.ma.masked_array(np.ones(images.shape), hidden)},
        {"images": images, "mask": np.ma.masked_array(np.zeros((2, 48, 48)), hidden[:, 0])},
        {"images": images, "mask": np.where(hidden[:, 0], np.nan, 0)},
    ):
        np.testing.assert_allclose(call(**changes).models, expected.models, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": stamps() * u.nJy}, r"images has the unit nJy; give plain numbers"),
        ({"psf": np.full((3, 5, 5), np.nan)}, "psf must be finite"),
        ({"psf": np.ma.masked_array(np.ones((3, 5, 5)), [np.eye(5)] * 3)}, "finite"),
        ({"variance": -np.ones((2, 3, 48, 48))}, "variance are negative in 100 %"),
        ({"pixel_scale": 5e-5}, "pixel_scale must be one number from 0.001 to 60"),
        ({"pixel_scale": np.nan}, "pixel_scale"),
        ({"pixel_scale": -0.2}, "pixel_scale must be one number"),
        ({"bands": ("g", "r")}, "bands names 2 bands, images have 3"),
        ({"images": stamps().astype(complex)}, "real numbers"),
    ],
)
def test_the_api_refuses_what_it_cannot_use(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        call(**changes)


def test_load_gives_it_for_every_deblender():
    assert isinstance(raydeblend.load("sep"), AnyUnit)
    assert raydeblend.load("sep").name == "sep"


def test_what_is_in_the_images_unit_is_scaled_and_the_rest_not():
    class Told:
        name = "told"

        def __call__(self, images, **_):
            n = len(images)
            extra = {"flux": np.ones((n, 1, 3)), "p_blend": np.ones(n)}
            models = np.ones((n, 1, *images.shape[1:]), np.float32)
            nothing = np.zeros((n, 1, 2), np.float32)
            return Deblended(models, np.ones(n, int), nothing, np.array(["high"] * n), extra)

    result = AnyUnit(Told())(stamps() * 1e-20)
    unit = result.models.max()
    assert unit < 1e-17
    np.testing.assert_allclose(result.extra["flux"], unit)
    np.testing.assert_allclose(result.extra["p_blend"], 1)


def test_a_misspelled_array_is_refused(tmp_path):
    np.savez(tmp_path / "in.npz", **valid(), var=np.ones((2, 3, 48, 48)), ids=[1, 2])
    with pytest.raises(ConfigError, match="unknown names: ids, var; known: images, variance"):
        deblend_file(str(tmp_path / "in.npz"), str(tmp_path / "out.npz"), SepDeblender())
    assert not (tmp_path / "out.npz").exists()
