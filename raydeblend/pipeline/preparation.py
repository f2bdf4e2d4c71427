"""A run before its first cell: which tiles there are, which cells are done, which are to do.

Nothing is written here, so that `raydeblend catalog --dry-run` asks what a run asks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from raydeblend import storage
from raydeblend.config import CatalogConfig
from raydeblend.errors import ConfigError
from raydeblend.fits.headers import TileFailure
from raydeblend.fits.manifest import to_manifest
from raydeblend.pipeline.cost import check_price
from raydeblend.pipeline.inputs import find_survey_tiles, with_layout
from raydeblend.pipeline.ledger import Run, check_output, manifest_of
from raydeblend.pipeline.placed import place
from raydeblend.pipeline.plan import Plan, SecondPass, plan_survey
from raydeblend.pipeline.run import describe
from raydeblend.pipeline.second_pass import check_renewable
from raydeblend.pipeline.seen import cells_left, with_shards, without_limited
from raydeblend.pipeline.selection import EVERYTHING, Choice, Selection, choose
from raydeblend.pipeline.share import parse_share
from raydeblend.pipeline.stages import choose_photometry
from raydeblend.positions import SkyPositions
from raydeblend.session import cluster_address, ray_session
from raydeblend.templates import read_given
from raydeblend.tile import TileHeader
from raydeblend.wording import amount

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRequest:
    """What is asked of a run, apart from the content of its catalog.

    Attributes
    ----------
    resume, overwrite
        What to do if the output already holds a run: do only what its ledger lacks, or replace it.
    accept_other_versions
        Resume a run that other versions of raydeblend or of its packages began.
    part
        Which part of the tiles to do, such as ``2/4``; `is_primary` is decided among all tiles.
    retry_limited
        With `resume`, deblend footprints that reached a work limit again, with limits multiplied by
        this factor.
    selection
        Which of the unfinished cells to do now.
    price
        Price of a core-hour, for the cost estimate in ``summary.json``.

    Raises
    ------
    ConfigError
        On construction, if cells that failed are asked for without ``resume``, or the part or the
        price is none.
    """

    resume: bool = False
    overwrite: bool = False
    accept_other_versions: bool = False
    part: str | None = None
    retry_limited: float | None = None
    selection: Selection = EVERYTHING
    price: float | None = None

    def __post_init__(self) -> None:
        self.selection.check(self.resume)
        parse_share(self.part)
        check_price(self.price)


WHOLE_RUN = RunRequest()


@dataclass(frozen=True)
class Prepared:
    """What a run knows before its first cell.

    Attributes
    ----------
    root
        The output, with its whole path.
    config
        With nothing left open.
    headers, unusable
        Of the tiles of the input; those of this part that cannot be used.
    tiles
        The input's manifest, by which a later run sees what has changed.
    plan, run, done
        All cells, what ``run.json`` will say, and the ledger's rows of the cells that are done.
    choice
        What is to do of the others.
    """

    root: str
    config: CatalogConfig
    headers: Sequence[TileHeader]
    unusable: Sequence[TileFailure]
    tiles: pa.Table
    plan: Plan
    run: Run
    done: pa.Table
    choice: Choice


def prepare(
    input: str, out: str, config: CatalogConfig, request: RunRequest, connect: Callable[[], None]
) -> Prepared:
    """Find the tiles, plan the cells, and see what of them `out` holds already.

    `connect` connects to Ray (`connect_once`); it is called only for many tiles.

    Raises
    ------
    ConfigError
        If the input, the output or the configuration cannot be used.
    """
    share = parse_share(request.part)
    input, root = storage.absolute(input), storage.absolute(out)
    config, positions = _with_positions(resolve(config, input, root), root)
    if request.retry_limited:
        check_renewable(root, config.save)
    headers, unusable = find_survey_tiles(input, config, connect)
    plan = plan_survey(headers, config.cell_size, config.border).only(share)
    plan = _placed(plan, headers, positions)
    run, tiles = describe(input, config, plan, share), to_manifest(headers)
    beginning = (request.resume, request.overwrite, request.accept_other_versions)
    done = with_shards(root, check_output(root, run, plan, tiles, *beginning))
    if request.retry_limited:
        again = SecondPass(root, request.retry_limited)
        plan, done = replace(plan, second_pass=again), without_limited(done, again)
    choice = choose(root, plan, cells_left(plan, done), request.selection, request.resume)
    of_this_part = [tile for tile in unusable if share.has(tile.name)]
    return Prepared(root, config, headers, of_this_part, tiles, plan, run, done, choice)


def connect_once(
    session: ExitStack, address: str | None, say: Callable[[str], None] = log.debug
) -> Callable[[], None]:
    """Return what connects to Ray until the end of `session`, if that is not done yet.

    `say` is told that it does.
    """

    def connect() -> None:
        say("starting Ray" if cluster_address(address) is None else "connecting to Ray")
        session.enter_context(ray_session(address))

    return connect


def resolve(config: CatalogConfig, input: str, out: str) -> CatalogConfig:
    """Return the configuration with what it leaves open: places of files, layout, photometry."""
    if config.manifest is not None:
        config = replace(config, manifest=manifest_of(out, config.manifest))
    if config.weights is not None and storage.exists(config.weights):
        config = replace(config, weights=storage.absolute(config.weights))
    config = with_layout(config, input)
    return replace(config, photometry=choose_photometry(config))


def _with_positions(config: CatalogConfig, out: str) -> tuple[CatalogConfig, SkyPositions | None]:
    """Read the given positions, if there are any; the configuration then says what they are."""
    where, shapes = (
        path if path is None else storage.absolute(path)
        for path in (config.positions, config.templates)
    )
    for path in (where, shapes):
        # With --overwrite they would be lost.
        if path is not None and f"{path}/".startswith(f"{out}/"):
            raise ConfigError(f"{path} is in the output of this run; choose another output")
    positions = read_given(where, shapes)
    if positions is None:
        return config, None
    found = positions.sha256
    given = replace(config, positions=where, templates=shapes, positions_hash=found, inject=0.0)
    return given, positions


def _placed(plan: Plan, headers: Sequence[TileHeader], positions: SkyPositions | None) -> Plan:
    """Return the plan with the given positions, and say how many lie on tiles.

    Raises
    ------
    ConfigError
        If none does.
    """
    if positions is None:
        return plan
    placed = place(headers, positions)
    if placed.outside == len(positions):
        raise ConfigError(f"none of the {len(positions)} given positions lies on a tile")
    log.info(
        "%s on %s; %d on none, %d in the pixel of another, which has the values",
        amount(sum(len(tile.xy) for tile in placed.tiles), "position"),
        amount(len(headers), "tile"),
        placed.outside,
        placed.crowded,
    )
    if positions.shapes is not None:
        points = int(np.isnan(positions.shapes[:, 0]).sum())
        log.info(
            "%d of all positions have a template, %d are points", len(positions) - points, points
        )
    return replace(plan, positions=placed.tiles)
