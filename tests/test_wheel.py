"""The package as pip installs it: weights inside, no checkout needed."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from raydeblend.networks.weights import shipped_weights
from raydeblend.simulate.protocols import wang2022_blends

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, as they lie in site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", *build, str(ROOT)], check=True, timeout=300)
    (wheel,) = folder.glob("raydeblend-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def _run(installed: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "raydeblend", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        command, cwd=installed.parent, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_shipped_weight_and_the_license(installed: Path) -> None:
    inside = {path.stem for path in (installed / "raydeblend/weights").glob("*.safetensors")}
    assert inside == set(shipped_weights())
    assert (installed / "raydeblend/py.typed").exists()
    (text,) = installed.glob("raydeblend-*.dist-info/licenses/LICENSE")
    assert "BSD 3-Clause" in text.read_text()


def test_the_wheel_deblends_without_the_checkout(installed: Path) -> None:
    listed = _run(installed, "weights")
    assert all(name in listed for name in shipped_weights())
    blends = wang2022_blends(2, seed=1)
    np.savez(installed.parent / "in.npz", images=blends["blend2"], psf=blends["psf"])
    _run(installed, "deblend", "in.npz", "out.npz", "--deblender", "rdn")
    with np.load(installed.parent / "out.npz") as models:
        assert models["n_sources"].sum() >= 2


def test_the_wheel_draws_the_realistic_sky_without_the_checkout(installed: Path) -> None:
    said = _run(installed, "simulate", "neighbors", "pairs", "--n", "1", "--bands", "i")
    assert "2 sources" in said
