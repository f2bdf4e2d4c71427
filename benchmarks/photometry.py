"""The photometry benchmark: ``python -m benchmarks.photometry [--n 2000] [--quick]``.

Accuracy on simulated galaxies and blends of known truth, and speed against ngmix on the same
stamps in the same run.  Times are CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np

from benchmarks import blends as on_blends
from benchmarks import isolated
from benchmarks.circumstances import circumstances
from raydeblend.fit.profiles import MODELS
from raydeblend.measure.measure import error_parts

VALID = Path("../shared/data/protocols/wang2022_valid.npz")
# Profiles beside ``exp`` take a quarter of the galaxies.
OTHERS = tuple(model for model in MODELS if model != "exp")


def main() -> None:
    """Run all parts and print their tables."""
    options = _options()
    n = 200 if options.quick else options.n
    # One core, for us as for ngmix.
    import torch

    torch.set_num_threads(1)
    print(circumstances(), flush=True)
    if options.calibrate:
        _calibrate(20 if options.quick else options.blends, options.deblender)
        return
    if not options.only_blends:
        _single(n)
    if options.data.exists():
        _blends(options.data, options.deblender, 20 if options.quick else options.blends)


def _single(n: int) -> None:
    _isolated(n)
    _shear(max(10, n // 8))
    if importlib.util.find_spec("ngmix"):
        _beside_ngmix(max(20, n // 5))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=2000, help="stamps of the accuracy table")
    parser.add_argument("--quick", action="store_true", help="200 stamps, 20 blends")
    parser.add_argument("--only-blends", action="store_true", help="leave out the single galaxies")
    parser.add_argument("--blends", type=int, default=200, help="blends of each number of galaxies")
    parser.add_argument(
        "--calibrate", action="store_true", help="only measure the constants of the errors"
    )
    parser.add_argument("--deblender", default="rdn", help="whose models the neighbors have")
    parser.add_argument("--data", type=Path, default=VALID, help="blends of known truth")
    return parser.parse_args()


def _isolated(n: int) -> None:
    print("\nIsolated galaxies of the fitted profile, 48x48 pixels, g r i, S/N 10 to 300")
    print("flux bias of S/N > 20 (weighted by S/N² and median), pulls and failures of all")
    print("PSF   model       n    bias %  ± error  median %      NMAD failed %  fits/s")
    for model in ("exp", *OTHERS):
        for survey, run in isolated.accuracy(n if model == "exp" else n // 4, model, True, 1):
            print(isolated.accuracy_row(survey, model, run), flush=True)
    print("the same with PSFs that extend beyond the stamp given to the fit:")
    for survey, run in isolated.accuracy(n // 4, "exp", False, 2):
        print(isolated.accuracy_row(survey, "exp", run), flush=True)


def _shear(n: int) -> None:
    print("\nResponse to shear, S/N 50 to 300, rings of four angles, ±0.02 in the same noise")
    print("PSF   model       n            m1 %            m2 %")
    for survey in isolated.SURVEYS:
        for model in ("exp", "bdf"):
            m, error = isolated.shear_response(n, model, survey, 3)
            cells = [f"{100 * a:+7.3f} ± {100 * b:.3f}" for a, b in zip(m, error, strict=True)]
            print(f"{survey:5} {model:6} {n:6} {cells[0]:>15} {cells[1]:>15}", flush=True)


def _beside_ngmix(n: int) -> None:
    print(
        "\nThe same stamps by ngmix: difference of the fluxes over ngmix's error; fits per second"
    )
    print("PSF   model       n   median     NMAD  ngmix failed %      ours   ngmix   ratio")
    for model in MODELS:
        print("\n".join(isolated.beside_ngmix(n, model, 4)), flush=True)


def _blends(path: Path, deblender: str, n: int) -> None:
    with np.load(path) as file:
        data = on_blends.read_set(dict(file)).first(n)
    print(f"\nBlends of {path.name}: per galaxy, brightest first")
    heads = ("mape, missing as 1", "mape of the found", "bias", "NMAD", "pulls' NMAD")
    print(f"{'':26} {' '.join(f'{head:>20}' for head in heads)} sources/s")
    for neighbors in ("truth", deblender):
        given = [on_blends.give_models(part, data, neighbors) for part in data.blends]
        for engine, model, joint in _measurements():
            outcomes = [on_blends.measure(part, data, engine, model, joint) for part in given]
            label = f"{neighbors} {model} {'joint' if joint else engine}"
            for outcome in outcomes:
                print(on_blends.outcome_row(label, outcome), flush=True)
            if neighbors == deblender:
                print("  pulls by blendedness: bin, fluxes, NMAD, median, % within 1 sigma")
                print("\n".join(f"  {row}" for row in on_blends.pull_rows(outcomes)), flush=True)


def _calibrate(n: int, deblender: str) -> None:
    print(f"\nPart of the neighbors' flux for pulls of NMAD 1, {n} blends of 2 and of 3")
    data = on_blends.calibration_set(n)
    given = [on_blends.give_models(part, data, deblender) for part in data.blends]
    for engine, model, joint in _measurements():
        outcomes = [on_blends.measure(part, data, engine, model, joint) for part in given]
        part = on_blends.calibrate(outcomes, error_parts(engine, model, joint).neighbors)
        print(f"{deblender} {model} {'joint' if joint else engine}: {part:.3f}", flush=True)
        print("\n".join(f"  {row}" for row in on_blends.pull_rows(outcomes)), flush=True)


def _measurements() -> list[tuple[str, str, bool]]:
    fits = [("mixture", m, j) for m in ("exp", "bdf") for j in (False, True)]
    fits.append(("mixture", "template", False))
    if importlib.util.find_spec("ngmix"):
        fits.append(("ngmix", "exp", False))
    return fits


if __name__ == "__main__":
    main()
