"""What Tab offers in a shell: commands, and the values of an option or argument."""

import pytest

from raydeblend.cli import evaluate, train
from raydeblend.cli.main import ORDER, main
from raydeblend.config import DEBLENDERS, PHOTOMETRY
from raydeblend.evaluate.protocol import PROTOCOLS
from raydeblend.networks.weights import shipped_weights
from raydeblend.train.networks import NETWORKS


def offered(
    typed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    monkeypatch.setenv("_RAYDEBLEND_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
    with pytest.raises(SystemExit):
        main([])
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("raydeblend ", ORDER),
        ("raydeblend catalog in out --deblender ", DEBLENDERS),
        ("raydeblend catalog in out --deblender v", ("vae",)),
        ("raydeblend catalog in out --second-opinion rdn-", ("rdn-joint",)),
        ("raydeblend catalog in out --photometry ", PHOTOMETRY),
        ("raydeblend deblend in out --deblender se", ("sep",)),
        ("raydeblend evaluate ", tuple(PROTOCOLS)),
        ("raydeblend evaluate wang2022 --deblender b", ("branched",)),
        ("raydeblend train rdn-", ("rdn-multiband", "rdn-joint")),
        ("raydeblend weights star", ("star",)),
        ("raydeblend export ", ("hats", "fits", "votable", "csv", "lsst", "rail")),
    ],
)
def test_names_are_completed(
    typed: str,
    names: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sorted(offered(typed, monkeypatch, capsys)) == sorted(names)


def test_what_is_offered_is_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tuple(PROTOCOLS) == evaluate.PROTOCOLS
    assert set(NETWORKS) == set(train.NETWORKS)
    shipped = {*shipped_weights(), *train.CALIBRATIONS}
    assert set(offered("raydeblend weights ", monkeypatch, capsys)) == shipped
