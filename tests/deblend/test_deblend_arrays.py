import numpy as np
import pytest

from raydeblend.deblend.arrays import deblend_file, parse_stamps, read_npz
from raydeblend.deblend.sep import SepDeblender
from raydeblend.errors import ConfigError


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
    out = run(tmp_path, unknown=np.arange(3))
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


def test_psf_is_normalised():
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
