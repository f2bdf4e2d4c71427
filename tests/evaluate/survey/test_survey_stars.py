import numpy as np
import pyarrow as pa
import pytest

from raydeblend.evaluate.survey.rows import make_star_rows
from raydeblend.evaluate.survey.stars import score_stars

BANDS = ("g", "i")
STARS, GALAXIES = 5, 15


def table(x, y, magnitude, **more):
    """Positions in arcsec, near the equator."""
    flux = 10 ** (0.4 * (31.4 - np.asarray(magnitude, dtype=float)))
    place = {"ra": 150 - np.asarray(x) / 3600, "dec": np.asarray(y) / 3600}
    return pa.table(place | {"flux_g": flux / 2, "flux_i": flux} | more)


def sky():
    """Stars 20 arcsec apart, three galaxies 4 arcsec from each; stars come last."""
    star_x = 20.0 * np.arange(STARS)
    angle = np.tile(2 * np.pi / 3 * np.arange(3), STARS)
    x = np.concatenate([np.repeat(star_x, 3) + 4 * np.cos(angle), star_x])
    y = np.concatenate([4 * np.sin(angle), np.zeros(STARS)])
    magnitude = np.concatenate([np.full(GALAXIES, 22.0), np.linspace(16, 20, STARS)])
    return x, y, magnitude


def catalog(x, y, magnitude, error=0.0, flags=0):
    sources = table(x, y, magnitude, is_primary=np.ones(len(x), bool))
    flux = sources["flux_i"].to_numpy()
    flags = np.broadcast_to(np.asarray(flags, np.int32), (len(x),))
    place = sources.column_names.index("flux_i")
    sources = sources.set_column(place, "flux_i", pa.array(flux * (1 + error)))
    sources = sources.append_column("flux_err_i", pa.array(0.01 * flux))
    return sources.append_column("flags", pa.array(flags))


def truth():
    is_star = np.arange(GALAXIES + STARS) >= GALAXIES
    return table(*sky(), is_star=is_star)


def test_planted_faults_of_stars_come_out():
    x, y, magnitude = sky()
    error = np.zeros(len(x))
    error[GALAXIES] = 0.03
    error[1] = 0.5  # a galaxy beside the brightest star
    error[3] = 0.04  # far off in sigmas only? 4: not 5
    x, y, magnitude, error = (np.delete(v, GALAXIES + 4) for v in (x, y, magnitude, error))
    # A piece of the second star, half an arcsec off.
    x, y = np.append(x, 20.5), np.append(y, 0.0)
    magnitude, error = np.append(magnitude, 19.0), np.append(error, 0.0)
    flags = np.zeros(len(x), np.int32)
    flags[GALAXIES] = 8
    stars = score_stars(catalog(x, y, magnitude, error, flags), truth(), BANDS)
    assert stars.rows.tolist() == [1, 2, 1, 1, 0]
    assert stars.error[:4] == pytest.approx([0.03, 0, 0, 0], abs=1e-9)
    assert np.isnan(stars.error[4])
    assert stars.flagged.tolist() == [True, False, False, False, False]
    assert len(stars.neighbor_of) == GALAXIES
    assert stars.neighbor_of[stars.neighbor_catastrophic] == pytest.approx([16.0])


def test_rows_by_magnitude():
    stars = score_stars(catalog(*sky()), truth(), BANDS)
    rows = make_star_rows("x", stars, 0.1)
    assert [row["galaxy"] for row in rows][-1] == "stars 15.5–20.5"
    assert [row["n"] for row in rows] == [1, 1, 1, 1, 1, 5]
    total = rows[-1]
    assert (total["found"], total["one_row"], total["neighbor_catastrophic"]) == (1, 1, 0)
    assert total["flux_bias"] == pytest.approx(0, abs=1e-9)
