"""Absurd results become nulls with a flag, and nothing else does."""

from dataclasses import replace

import numpy as np
import pytest
from galaxy_stamps import SCALE, make_blend

from raydeblend.fit.result import ARRAYS, Measurements, not_attempted
from raydeblend.flags import Flag
from raydeblend.measure.plausible import only_plausible

XY = np.array([[20.0, 20.0], [26.0, 22.0]])


def footprint_blend():
    blend = make_blend(np.zeros((3, 48, 48)), 1.0, XY)
    footprint = np.zeros((48, 48), dtype=bool)
    footprint[15:28, 14:32] = True
    return replace(blend, footprint=footprint)


def measured(**changes) -> Measurements:
    out = not_attempted(2, 3, "bdf", "mixture")
    usual = {
        "flux": [[10.0, 20.0, 30.0]] * 2,
        "flux_err": [[2.0, 2.0, 3.0]] * 2,
        "flux_cov": [np.diag([4.0, 4.0, 9.0])] * 2,
        "snr": [7.0, 1e9],
        "r50": [0.4, 0.6],
        "bulge_fraction": [[0.1] * 3] * 2,
        "T": [0.3, 0.7],
        "T_err": [0.1, 0.1],
        "g1": [0.1, -0.2],
        "g2": [0.0, 0.3],
        "g1_err": [0.1, 0.1],
        "g2_err": [0.1, 0.1],
        "chi2": [1.0, 1.0],
        "shift": [[0.1, 0.0], [0.0, -0.2]],
        "position_cov": [0.01 * np.eye(2)] * 2,
        "flags": [0, int(Flag.MASKED)],
    }
    for name, value in (usual | changes).items():
        getattr(out, name)[:] = value
    return out


def check(**changes) -> Measurements:
    return only_plausible(measured(**changes), footprint_blend(), XY, SCALE)


def test_a_good_result_stays_but_for_the_snr_that_its_fluxes_say():
    out = check()
    for name in set(ARRAYS) - {"snr"}:
        np.testing.assert_array_equal(getattr(out, name), getattr(measured(), name))
    np.testing.assert_allclose(out.snr, np.sqrt(25 + 100 + 100))


def test_a_band_without_a_flux_has_no_part_in_the_snr():
    flux = [[np.nan, 20.0, 30.0], [np.nan] * 3]
    out = check(flux=flux)
    assert out.snr[0] == pytest.approx(np.sqrt(200))
    assert np.isnan(out.snr[1])
    assert out.flags.tolist() == [0, int(Flag.MASKED)]


ABSURD = {
    "a flux far below 0": {"flux": [[10.0, 20.0, 30.0], [10.0, -10.1, 30.0]]},
    "half the light beyond the footprint": {"r50": [0.4, 6.5]},
    "a long galaxy beyond the footprint": {"r50": [0.4, 4.0], "g1": [0.0, 0.7]},
    "wider than so faint a source is seen": {
        "r50": [0.4, 2.0],
        "flux": [[10.0, 20.0, 30.0], [4.0, 6.0, 9.0]],
    },
    "no error": {"flux_err": [[2.0, 2.0, 3.0], [2.0, np.inf, 3.0]]},
    "an error of 0": {"flux_err": [[2.0, 2.0, 3.0], [2.0, 0.0, 3.0]]},
    "a shear of more than 1": {"g1": [0.1, 1.2]},
    "off the footprint": {"shift": [[0.1, 0.0], [8.0, 0.0]]},
    "off the stamp": {"shift": [[0.1, 0.0], [4e7, 0.0]]},
}


@pytest.mark.parametrize("name", ABSURD)
def test_an_absurd_source_is_null_and_flagged_and_its_neighbor_stays(name):
    out = check(**ABSURD[name])
    assert out.flags.tolist() == [0, int(Flag.MASKED | Flag.FIT_FAILED)]
    for array in (out.flux, out.flux_err, out.flux_cov, out.T, out.r50, out.g1, out.shift):
        assert np.isnan(array[1]).all()
        assert np.isfinite(array[0]).all()


ODD = {
    "a flux 5 errors below 0": {"flux": [[10.0, 20.0, 30.0], [10.0, -9.9, 30.0]]},
    "a galaxy larger than its footprint": {"r50": [0.4, 2.0]},
    "a faint source a little wider than most": {
        "r50": [0.4, 1.4],
        "flux": [[10.0, 20.0, 30.0], [4.0, 6.0, 9.0]],
    },
    "at the edge of the footprint": {"shift": [[0.1, 0.0], [6.0, 0.0]]},
}


@pytest.mark.parametrize("name", ODD)
def test_what_noise_can_do_is_not_absurd(name):
    out = check(**ODD[name])
    assert out.flags.tolist() == [0, int(Flag.MASKED)]
    assert np.isfinite(out.flux).all()


def test_beside_the_footprint_is_nowhere_if_no_band_sees_it():
    blend = footprint_blend()
    at_edge = measured(**ODD["at the edge of the footprint"])
    dark = np.array(blend.unusable)
    dark[:2, :, 32:] = True
    seen = only_plausible(at_edge, replace(blend, unusable=dark), XY, SCALE)
    dark[2, :, 32:] = True
    unseen = only_plausible(at_edge, replace(blend, unusable=dark), XY, SCALE)
    assert np.isfinite(seen.flux).all()
    assert np.isfinite(unseen.flux).all(1).tolist() == [True, False]
    assert unseen.flags[1] & Flag.FIT_FAILED


def test_what_was_not_measured_is_not_absurd():
    nothing = not_attempted(2, 3, "bdf", "mixture")
    out = only_plausible(nothing, footprint_blend(), XY, SCALE)
    assert out.flags.tolist() == [int(Flag.NOT_ATTEMPTED)] * 2


def test_a_blend_without_sources_has_none_afterwards():
    out = only_plausible(not_attempted(0, 3, "bdf", "mixture"), footprint_blend(), XY[:0], SCALE)
    assert out.flux.shape == (0, 3)


def test_a_source_alone_in_a_wide_footprint_is_seen_however_large_its_error() -> None:
    blend = footprint_blend()
    wide = replace(blend, footprint=np.ones_like(blend.footprint))
    one = measured(flux_err=20.0, r50=2.0).take(np.arange(1))
    out = [only_plausible(one, each, XY[:1], SCALE) for each in (wide, blend)]
    assert [bool(each.flags[0] & Flag.FIT_FAILED) for each in out] == [False, True]
