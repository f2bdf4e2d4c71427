"""The layers of DESIGN.md, read from the import statements of every module."""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "raydeblend"
MODULES = sorted(PACKAGE.rglob("*.py"))

FOUNDATION = (
    "ellipses",
    "errors",
    "flags",
    "survey",
    "survey_file",
    "own_code",
    "positions",
    "psf",
    "tile",
    "paths",
    "filesystems",
    "literal_s3",
    "storage",
    "access",
    "tables",
    "fits",
    "config",
    "catalog",
    "session",
    "instruments",
    "outputs",
    "stderr",
    "terminal",
    "ucds",
    "parents",
    "models",
    "pictures",
    "shipped",
    "sky_tables",
    "templates",
    "traffic",
)
LAYERS: dict[str, int] = {
    **dict.fromkeys(FOUNDATION, 0),
    **dict.fromkeys(("detect", "fit", "simulate", "networks"), 1),
    "measure": 2,
    **dict.fromkeys(("deblend", "inject", "checks"), 3),
    **dict.fromkeys(("train", "pipeline", "evaluate", "calibrate", "stellar_psf"), 4),
    **dict.fromkeys(("export", "draw", "products"), 5),
    **dict.fromkeys(("cli", "demo", "btk", "__init__", "__main__"), 6),
}
RAY_HOMES = (
    "train/interfaces.py",
    "train/loop.py",
    "train/worker.py",
    "pipeline/graph.py",
    "pipeline/rounds.py",
    "pipeline/inputs.py",
    # What Ray Data is told of a graph, and what it tells of the blocks that it leaves out.
    "pipeline/backpressure.py",
    "pipeline/lost_blocks.py",
    "pipeline/ray_internals.py",
    "pipeline/under_way.py",
    "pipeline/cell_memory.py",
    # Ray's own metrics; the driver counts.
    "pipeline/metrics.py",
    "simulate/shards.py",
    "simulate/tiles.py",
    "session.py",
)
TORCH_HOMES = (
    "networks/",
    "deblend/",
    "train/",
    "fit/",
    "simulate/galaxy_zoo.py",
)
LOADED = ("pipeline/rounds.py", "fit/blend.py", "fit/single.py", "deblend/sep.py")
"""What the processes of a catalog by sep load; each of them, so that seconds count."""
SLOW = ("torch", "scipy.signal", "scipy.stats", "s3fs", "matplotlib", "sklearn", "skimage")


@cache
def imports(path: Path, inside_functions: bool) -> tuple[str, ...]:
    """Return the dotted names that a module imports, type-checking blocks left out."""
    names: list[str] = []
    for node in _nodes(ast.parse(path.read_text()), inside_functions):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(names)


def _nodes(tree: ast.AST, inside_functions: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if not inside_functions and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        yield from _nodes(node, inside_functions)


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer_of(path: Path) -> int:
    return LAYERS[path.relative_to(PACKAGE).parts[0].removesuffix(".py")]


def forbidden_layer(path: Path, name: str) -> bool:
    """Tell whether a module may not import `name` from where it stands."""
    own, other = path.relative_to(PACKAGE).parts[0].removesuffix(".py"), name.split(".")[1]
    if other == own or other not in LAYERS:
        return False
    if LAYERS[other] > layer_of(path):
        return True
    # The protocol `survey` scores the whole pipeline, which knows nothing of evaluation; the
    # calibration of suspects learns from catalogs and their scores, that of inputs draws blends as
    # the training does.
    allowed = {
        ("pipeline", "train"),
        ("evaluate", "pipeline"),
        ("calibrate", "pipeline"),
        ("calibrate", "evaluate"),
        ("calibrate", "train"),
    }
    beside = LAYERS[other] == layer_of(path) and layer_of(path) in (1, 4)
    return beside and (own, other) not in allowed


def of_package(package: str, paths: Iterable[Path], but_in: tuple[str, ...] = ()) -> list[str]:
    """Return which modules import a package; those `but_in` some folders may in functions."""
    return [
        f"{relative(path)} imports {name}"
        for path in paths
        for name in imports(path, not (but_in and relative(path).startswith(but_in)))
        if name.split(".")[0] == package
    ]


def test_a_module_imports_only_layers_below_or_beside_it() -> None:
    wrong = [
        f"{relative(path)} imports {name}"
        for path in MODULES
        if relative(path) != "__init__.py"
        for name in imports(path, inside_functions=True)
        if name.startswith("raydeblend.") and forbidden_layer(path, name)
    ]
    assert wrong == []
    assert len(MODULES) > 100


def test_ray_is_imported_only_where_work_is_distributed() -> None:
    """Commands import it inside functions, so that help is there at once."""
    elsewhere = [path for path in MODULES if relative(path) not in RAY_HOMES]
    assert of_package("ray", elsewhere, but_in=("cli/",)) == []


def test_torch_is_imported_only_by_networks_deblenders_and_fits() -> None:
    elsewhere = [path for path in MODULES if not relative(path).startswith(TORCH_HOMES)]
    assert of_package("torch", elsewhere) == []


def loaded(paths: Iterable[Path]) -> set[Path]:
    """Return the modules that are loaded with some, and these."""
    found: set[Path] = set()
    left = set(paths)
    while left:
        found |= left
        names = {name for path in left for name in imports(path, inside_functions=False)}
        left = {module for name in names for module in modules_of(name)} - found
    return found


def modules_of(name: str) -> list[Path]:
    """Return the module of the package that is or has a dotted name, as a list of at most one."""
    path = ROOT / name.replace(".", "/")
    candidates = (path.with_suffix(".py"), path.parent.with_suffix(".py"))
    return [candidate for candidate in candidates if candidate in MODULES][:1]


def test_what_a_catalog_by_sep_loads_is_soon_there() -> None:
    modules = loaded(PACKAGE / path for path in LOADED)
    wrong = [
        f"{relative(path)} imports {name}"
        for path in modules
        for name in imports(path, inside_functions=False)
        if name.startswith(SLOW)
    ]
    assert wrong == []
    assert PACKAGE / "fit/compiled/samples.py" in modules


def test_deblending_knows_nothing_of_the_simulator() -> None:
    """Else a constant of the simulator could change catalogs while no hash changes."""
    wrong = [
        f"{relative(path)} imports {name}"
        for path in (PACKAGE / "deblend").rglob("*.py")
        for name in imports(path, inside_functions=True)
        if name.startswith("raydeblend.simulate")
    ]
    assert wrong == []


def test_what_protocols_share_knows_none_of_them() -> None:
    wrong = [
        f"{relative(path)} imports {name}"
        for path in (PACKAGE / "evaluate/common").glob("*.py")
        for name in imports(path, inside_functions=True)
        if name.startswith("raydeblend.evaluate.") and name.split(".")[2] != "common"
    ]
    assert wrong == []


def test_the_rules_see_a_forbidden_import(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def f():\n    import ray.data\n")
    assert imports(module, inside_functions=True) == ("ray.data",)
    assert imports(module, inside_functions=False) == ()
