"""One small catalog that all pictures are of."""

import pytest
from coadds import BANDS, SKY, write_coadd
from in_process import catalogs_in_process

from raydeblend.config import CatalogConfig
from raydeblend.pipeline.survey import run_catalog


@pytest.fixture(scope="session")
def out(tmp_path_factory: pytest.TempPathFactory) -> str:
    tiles, out = (tmp_path_factory.mktemp(name) for name in ("tiles", "run"))
    for band in BANDS:
        write_coadd(tiles / f"field_{band}.fits", band, 0, 0, *SKY)
    config = CatalogConfig(
        bands=BANDS, deblender="sep", photometry="mixture", cell_size=150, border=40
    )
    with catalogs_in_process():
        run_catalog(str(tiles), str(out / "out"), config, progress=False)
    return str(out / "out")
