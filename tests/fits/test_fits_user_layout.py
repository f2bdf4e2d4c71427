"""A user's own layout, and those two that are shipped after their documentation alone."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astrofits
from tile_files import pixels, wcs_header

from raydeblend import fits
from raydeblend.errors import ConfigError, TileError
from raydeblend.fits.layouts import describe, find_layout, make_layout, shipped, text_of
from raydeblend.fits.manifest import to_manifest, write_manifest
from raydeblend.flags import Flag
from raydeblend.survey import get_survey
from raydeblend.tile import Tile, TileHeader

SHAPE = (48, 50)
NMGY = 3631.0
"""nJy of one nanomaggy: AB magnitude 22.5."""
OWN = r"""
title: an image and a map of errors, in files of their own
source: the observer
survey: DES
background: none
bands: {red: r}
files:
  - {holds: image, name: 'field(?P<n>\d+)_(?P<band>[a-z]+)_sci', tile: 'f{n}'}
  - {holds: error, name: 'field(?P<n>\d+)_(?P<band>[a-z]+)_rms', tile: 'f{n}'}
  - {holds: mask, name: 'field(?P<n>\d+)_bad', tile: 'f{n}'}
flux: {magnitude_of_one_count: [ZP]}
mask: {bits: {HOT: 0, DONUT: 3, SAT_R: 4}, bad: [HOT, 'SAT_{BAND}'], saturated: ['SAT_{BAND}']}
"""


def write(path: Path, data: np.ndarray, name: str | None = None, **cards: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    hdu = astrofits.CompImageHDU if path.suffix == ".fz" else astrofits.ImageHDU
    plane = hdu(data, wcs_header(), name=name)
    plane.header.update(cards)
    astrofits.HDUList([astrofits.PrimaryHDU(), plane]).writeto(path)


def plan(folder: Path, bands: tuple[str, ...], layout: str) -> TileHeader:
    (header,), failures = fits.find_tiles(str(folder), bands, layout=layout)
    assert not failures
    return header


def read(header: TileHeader, survey: str = "DES") -> Tile:
    return fits.read_tile(header, header.box, get_survey(survey))


def own(folder: Path, text: str = OWN) -> str:
    (folder / "own.yaml").write_text(text)
    return str(folder / "own.yaml")


@pytest.fixture
def field(tmp_path: Path) -> Path:
    """One tile in the layout `OWN`."""
    errors, mask = np.full(SHAPE, 2, np.float32), np.zeros(SHAPE, np.int16)
    errors[0, 0] = 0
    mask[1, 1], mask[2, 2], mask[3, 3] = 1, 1 << 3, 1 << 4
    write(tmp_path / "a/field007_red_sci.fits", pixels(shape=SHAPE), ZP=27.0)
    write(tmp_path / "b/field7_red_rms.fits.gz", errors)
    write(tmp_path / "field7_bad.fits", mask)
    return tmp_path


def test_planes_in_files_of_their_own(field: Path) -> None:
    header = plan(field, ("r",), own(field))
    tile = read(header)
    assert header.name == "f7"
    np.testing.assert_allclose(tile.image[0, 10], pixels(shape=SHAPE)[10] * 57.544, rtol=1e-4)
    np.testing.assert_allclose(tile.variance[0], 4 * 57.544**2, rtol=1e-4)
    assert np.argwhere(tile.unusable[0]).tolist() == [[0, 0], [1, 1], [3, 3]]
    assert np.argwhere(tile.saturated).tolist() == [[3, 3]]
    assert Flag(tile.flags) == Flag.PSF_NOMINAL


def test_a_manifest_keeps_the_layout(field: Path) -> None:
    """What a run writes to OUT is enough to read the tiles again, without the user's file."""
    layout = own(field)
    header = plan(field, ("r",), layout)
    Path(layout).unlink()
    write_manifest(str(field / "tiles.parquet"), to_manifest([header]))
    manifest = str(field / "tiles.parquet")
    (again,), failures = fits.find_tiles(str(field), ("r",), manifest=manifest)
    assert (again, failures) == (header, [])
    np.testing.assert_array_equal(read(again).unusable, read(header).unusable)


def test_a_manifest_names_layouts(field: Path) -> None:
    (field / "m.csv").write_text(
        "tile,band,image,noise,mask,layout\n"
        f"t,r,a/field007_red_sci.fits,b/field7_red_rms.fits.gz,field7_bad.fits,{own(field)}\n"
    )
    (header,), failures = fits.find_tiles(str(field), ("r",), manifest=str(field / "m.csv"))
    assert not failures
    assert read(header).unusable.sum() == 3


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("title:", "titel:", "it has the unknown key 'titel'; valid: title, source, "),
        ("source: the observer\n", "", "it lacks 'source'"),
        ("background: none", "background: dark", "background is 'dark'; valid: local, none"),
        ("holds: error", "holds: weight", "file 2: holds is 'weight'; valid: image, mask, "),
        ("holds: image", "holds: error", "none of its files holds the image"),
        ("(?P<band>[a-z]+)_sci", "(?P<band>[a-z]+_sci", "file 1: name is no regular expression"),
        ("(?P<band>[a-z]+)_sci", "[a-z]+_sci", "file 1: the name of an image needs a group"),
        ("tile: 'f{n}'}", "tile: 'f{m}'}", "file 1: tile 'f{m}' must be made of groups"),
        ("tile: 'f{n}'}", "tile: 7}", "file 1: tile must be a list of names, not 7"),
        ("{magnitude_of_one_count: [ZP]}", "{unit: lux}", "flux: unit is 'lux', which is no flux"),
        ("mask: {bits", "mask: {cards: MP_, bits", "mask must have either cards or bits"),
        ("HOT: 0", "HOT: 64", "mask: bits must be a mapping of planes to bits from 0 to 63"),
        ("mask: {", "psf: everywhere\nmask: {", "psf is 'everywhere'; valid: stamp, "),
        ("survey: DES", "hdus: {mask: [A]}", "hdus lacks 'image'"),
        ("survey: DES", "hdus: {image: [A], mask: [a]}", "hdus: A stands for image and for mask"),
        ("bands: {red: r}", "bands: [r]", "bands must be a mapping, not ['r']"),
        ("title: an", "title: [", "is not valid YAML"),
        ("survey: DES", "recognized_by: {card: X}", "recognized_by lacks 'begins'"),
    ],
)
def test_a_layout_is_checked_before_any_work(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    assert old in OWN
    with pytest.raises(ConfigError) as error:
        find_layout(own(tmp_path, OWN.replace(old, new)))
    assert sentence in str(error.value)
    assert "own.yaml" in str(error.value)


def test_a_layout_that_is_not_there() -> None:
    with pytest.raises(
        ConfigError, match=r"the layout nothing.yaml cannot be read: .*nothing.yaml"
    ):
        find_layout("nothing.yaml")
    with pytest.raises(ConfigError, match="unknown layout 'des'; valid: auto, euclid-mer, hsc"):
        find_layout("des")


def test_every_shipped_layout_says_where_it_is_from() -> None:
    listed = "\n".join(describe())
    for name in shipped():
        layout = make_layout(name)
        assert layout.title in listed
        assert layout.source in listed
        assert layout.auto or layout.unverified
        assert find_layout(name) == layout
        assert f"title: {layout.title}" in text_of(name)
        if layout.survey:
            get_survey(layout.survey)


def test_legacy_bricks(tmp_path: Path) -> None:
    """As documented: nanomaggies, inverse variances, one mask for all bands."""
    weight, mask = np.full(SHAPE, 0.25, np.float32), np.zeros(SHAPE, np.int16)
    weight[0, 0] = 0
    mask[1, 1], mask[2, 2], mask[3, 3], mask[4, 4] = 1 << 6, 1 << 2, 1 << 1, 1 << 3
    stem = tmp_path / "coadd/150/1501p022/legacysurvey-1501p022-"
    for band in "gr":
        write(Path(f"{stem}image-{band}.fits.fz"), pixels(shape=SHAPE))
        write(Path(f"{stem}invvar-{band}.fits.fz"), weight)
        write(Path(f"{stem}model-{band}.fits.fz"), weight)
    write(Path(f"{stem}maskbits.fits.fz"), mask, "MASKBITS")
    tile = read(plan(tmp_path, ("g", "r"), "legacy"))
    # Compressed with loss, a hundredth of the noise.
    assert tile.image.std() / NMGY == pytest.approx(2, rel=0.05)
    np.testing.assert_allclose(tile.variance / NMGY**2, 4, rtol=1e-3)
    g, r = (np.argwhere(band).tolist() for band in tile.unusable)
    assert g == [[0, 0], [2, 2]]  # SATUR_G
    assert r == [[0, 0], [1, 1], [4, 4]]  # ALLMASK_R, SATUR_R
    assert np.argwhere(tile.saturated).tolist() == [[2, 2], [4, 4]]


def test_legacy_bricks_with_a_contradicting_file_are_refused(tmp_path: Path) -> None:
    stem = tmp_path / "legacysurvey-1501p022-"
    write(Path(f"{stem}image-g.fits.fz"), pixels(shape=SHAPE), BUNIT="adu")
    write(Path(f"{stem}invvar-g.fits.fz"), np.ones((20, 20), np.float32))
    _, (failure,) = fits.find_tiles(str(tmp_path), ("g",), layout="legacy")
    assert "has no zero point" in failure.reason
    Path(f"{stem}image-g.fits.fz").unlink()
    write(Path(f"{stem}image-g.fits.fz"), pixels(shape=SHAPE))
    with pytest.raises(TileError, match="the inverse variance is 20×20 pixels, the image 48×50"):
        read(plan(tmp_path, ("g",), "legacy"))


def test_euclid_mosaics(tmp_path: Path) -> None:
    """As documented: counts a second with a zero point in the primary HDU, errors beside."""
    name = "EUC_MER_{}_TILE102018211-ACBD03_20241018T142710.276838Z_00.00.fits"
    errors = np.full(SHAPE, 2, np.float32)
    errors[5, 5] = np.nan
    header = wcs_header(BUNIT="ADU/s", MAGZERO=24.6)
    image, rms = (astrofits.PrimaryHDU(data, header) for data in (pixels(shape=SHAPE), errors))
    image.writeto(tmp_path / name.format("BGSUB-MOSAIC-VIS"))
    rms.writeto(tmp_path / name.format("MOSAIC-VIS-RMS"))
    tile = read(plan(tmp_path, ("IE",), "euclid-mer"), "Euclid_VIS")
    njy = 10 ** (0.4 * (31.4 - 24.6))
    np.testing.assert_allclose(tile.image[0, 10], pixels(shape=SHAPE)[10] * njy, rtol=1e-5)
    np.testing.assert_allclose(tile.variance[0], 4 * njy**2, rtol=1e-5)
    assert np.argwhere(tile.unusable[0]).tolist() == [[5, 5]]


def test_the_documented_layout_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/howto/inputs.md").read_text()
    layout = find_layout(own(tmp_path, page.partition("```yaml\n")[2].partition("```")[0]))
    assert [file.holds for file in layout.files] == ["image", "error", "mask"]
