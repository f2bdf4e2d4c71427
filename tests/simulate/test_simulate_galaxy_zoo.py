"""Galaxy Zoo pictures and blends: against pictures whose pixels and moments are known."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from raydeblend.errors import ConfigError
from raydeblend.simulate.galaxy_zoo import (
    ZooRecipe,
    compose_zoo,
    draw_zoo_blends,
    list_pictures,
    read_galaxy_zoo,
    split_of,
)

ZOO = Path(__file__).parents[3] / "shared" / "data" / "galaxy_zoo"
needs_zoo = pytest.mark.skipif(not ZOO.is_dir(), reason="needs ../shared/data/galaxy_zoo")


def names(split: str, n: int) -> list[str]:
    return [name for name in map(str, range(100_000, 101_000)) if split_of(name) == split][:n]


def write_picture(folder: Path, name: str, side: int = 424) -> None:
    """Red rises to the right, green downwards, blue is even."""
    x, y = np.meshgrid(np.arange(side), np.arange(side))
    rgb = np.stack([x / 2, y / 2, np.full_like(x, 40)], axis=-1)
    Image.fromarray(rgb.astype(np.uint8)).save(folder / f"{name}.jpg", quality=95)


@pytest.mark.parametrize("side", [423, 424])
def test_the_center_is_cropped_and_reduced_threefold(tmp_path: Path, side: int) -> None:
    for name in names("train", 2):
        write_picture(tmp_path, name, side)
    images = read_galaxy_zoo(str(tmp_path), "train").images
    assert images.shape == (2, 3, 80, 80)
    # Pixel k covers columns 3k to 3k + 2 of the crop, whose first is (side - 240) // 2.
    expected = ((side - 240) // 2 + 1 + 3 * np.arange(80)) / 2
    np.testing.assert_allclose(images[0, 2], np.tile(expected, (80, 1)), atol=3)
    np.testing.assert_allclose(images[0, 1], np.tile(expected[:, None], 80), atol=3)
    np.testing.assert_allclose(images[0, 0], 40, atol=3)


def test_unusable_files_are_skipped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, small, cut, text, gray = names("train", 6)[:2], *names("train", 6)[2:]
    for name in good:
        write_picture(tmp_path, name)
    write_picture(tmp_path, small, side=300)
    write_picture(tmp_path, cut)
    content = (tmp_path / f"{cut}.jpg").read_bytes()
    (tmp_path / f"{cut}.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / f"{text}.jpg").write_text("not a picture")
    Image.new("L", (424, 424)).save(tmp_path / f"{gray}.jpg")
    read = read_galaxy_zoo(str(tmp_path), "train")
    assert read.names == tuple(sorted(good))
    assert read.skipped == 4
    assert "4 of 6 pictures" in caplog.text


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no \.jpg"):
        read_galaxy_zoo(str(tmp_path), "train")
    for name in names("train", 3):
        write_picture(tmp_path, name, side=100)
    with pytest.raises(ConfigError, match="0 usable pictures of 3"):
        read_galaxy_zoo(str(tmp_path), "train")
    with pytest.raises(ConfigError, match="none of the 3 pictures"):
        read_galaxy_zoo(str(tmp_path), "test")


def test_splits_are_by_galaxy_and_one_in_eight() -> None:
    drawn = [split_of(str(587_722_000_000_000_000 + 97 * k)) for k in range(8000)]
    for split in ("validation", "test"):
        # Binomial: 1000 with a standard deviation of 30.
        assert drawn.count(split) == pytest.approx(1000, abs=120)
    assert set(drawn) == {"train", "validation", "test"}


def ellipses(n: int = 6, size: int = 80) -> torch.Tensor:
    """Centered Gaussians with axes of 6 and 3 pixels, of different brightness."""
    axis = torch.arange(size) - (size - 1) / 2
    shape = torch.exp(-(axis[None] ** 2) / (2 * 6**2) - axis[:, None] ** 2 / (2 * 3**2))
    peak = torch.linspace(120, 250, n)
    return (peak[:, None, None, None] * shape).expand(n, 3, size, size).round().to(torch.uint8)


def moments(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centroid (x, y) and covariance, by sums over the pixels."""
    y, x = np.indices(image.shape)
    points = np.stack([x.ravel(), y.ravel()])
    mean = np.average(points, axis=1, weights=image.ravel())
    return mean, np.cov(points, aweights=image.ravel(), ddof=0)


def test_blends_are_maxima_of_one_untouched_and_one_changed_galaxy() -> None:
    images, recipe = ellipses(), ZooRecipe(displacement=(10, 15))
    blend, galaxies, xy = draw_zoo_blends(images.numpy(), 64, seed=1, recipe=recipe)
    np.testing.assert_allclose(blend, galaxies.max(axis=1), atol=1e-7)
    originals = (images.float() / 255).numpy()
    which = [int(np.abs(originals - g).max(axis=(1, 2, 3)).argmin()) for g in galaxies[:, 0]]
    np.testing.assert_allclose(originals[which], galaxies[:, 0], atol=1e-6)
    assert len(set(which)) == len(images)
    shift = xy[:, 1] - 39.5
    assert ((np.abs(shift) >= 10) & (np.abs(shift) <= 15)).all()
    assert (np.sign(shift).mean(axis=0) < 0.5).all()
    scales, angles = [], []
    for galaxy, position in zip(galaxies[:, 1, 0], xy[:, 1], strict=True):
        mean, covariance = moments(galaxy)
        np.testing.assert_allclose(mean, position, atol=0.1)
        values, vectors = np.linalg.eigh(covariance)
        # Shape is kept; rounding to bytes cuts the wings a little.
        assert math.sqrt(values[1] / values[0]) == pytest.approx(2, abs=0.15)
        scales.append(math.log(math.sqrt(values[1]) / 6))
        angles.append(math.degrees(math.atan2(vectors[1, 1], vectors[0, 1])) % 180)
    assert -1.1 < min(scales) < -0.8
    assert 0.3 < max(scales) < 0.55
    # Log-uniform in [-1, 1/2]: mean -1/4, standard deviation 1.5 / sqrt(12) / 8 of the mean.
    assert np.mean(scales) == pytest.approx(-0.25, abs=0.2)
    assert np.histogram(angles, bins=4, range=(0, 180))[0].min() > 4


def test_turns_and_flips_are_seen_in_a_lopsided_galaxy() -> None:
    size = 80
    images = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    # Two arms of unequal length at a right angle: no turn makes it its mirror image.
    images[:, :, 38:42, 40:54], images[:, :, 30:40, 38:42] = 200, 100
    recipe = ZooRecipe(displacement=(0, 0), log_scale=(0, 0))
    blends = compose_zoo(images, 200, torch.Generator().manual_seed(2), recipe)
    other = (blends.galaxies[:, 1, 0] + 1) / 2
    mirrored = []
    for image in other.numpy():
        long, short = (moments(np.where(mask, image, 0))[0] - 39.5 for mask in arms(image))
        mirrored.append(np.cross(np.append(long, 0), np.append(short, 0))[2] > 0)
    # Half of the combinations of two flips mirror.
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.12)


def arms(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the bright and where the faint arm is, away from the center and the edges."""
    y, x = np.indices(image.shape)
    outside = np.hypot(x - 39.5, y - 39.5) > 4
    return (image > 0.7) & outside, (image > 0.3) & (image < 0.45) & outside


def test_targets_are_in_minus_one_to_one_and_a_seed_repeats_them() -> None:
    first = compose_zoo(ellipses(), 8, torch.Generator().manual_seed(3))
    again = compose_zoo(ellipses(), 8, torch.Generator().manual_seed(3))
    other = compose_zoo(ellipses(), 8, torch.Generator().manual_seed(4))
    torch.testing.assert_close(first.galaxies, again.galaxies)
    assert not torch.equal(first.galaxies, other.galaxies)
    assert first.galaxies.min() == -1
    assert 0.5 < first.galaxies.max() <= 1
    assert first.blend.min() >= 0
    assert first.blend.max() <= 1


@needs_zoo
def test_real_pictures_are_centered_on_a_galaxy_and_dark_at_the_corners() -> None:
    read = read_galaxy_zoo(str(ZOO), "test", limit=24)
    white = read.images.mean(axis=1)
    assert read.skipped == 0
    assert (white[:, 35:45, 35:45].mean(axis=(1, 2)) > 2 * np.median(white, axis=(1, 2))).all()
    assert np.median(white[:, :8, :8]) < 20


@needs_zoo
def test_the_split_of_the_real_pictures_is_fixed() -> None:
    parts = {split: len(list_pictures(str(ZOO), [split])) for split in ("validation", "test")}
    assert parts == {"validation": 315, "test": 300}
