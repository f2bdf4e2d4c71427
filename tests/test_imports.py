"""The layers of DESIGN.md, read from the import statements of every module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "raydeblend"
MODULES = sorted(PACKAGE.rglob("*.py"))

FOUNDATION = (
    "errors",
    "flags",
    "survey",
    "tile",
    "storage",
    "fits",
    "config",
    "catalog",
    "session",
)
LAYERS: dict[str, int] = {
    **dict.fromkeys(FOUNDATION, 0),
    **dict.fromkeys(("detect", "measure", "simulate", "networks"), 1),
    "fit": 2,
    "deblend": 3,
    **dict.fromkeys(("train", "pipeline", "evaluate"), 4),
    **dict.fromkeys(("export", "draw"), 5),
    **dict.fromkeys(("products", "skies", "options", "cli", "demo", "btk", "__init__"), 6),
}
RAY_HOMES = (
    "train/loop.py",
    "pipeline/survey.py",
    # What Ray Data is told of a graph, and what it tells of the blocks that it leaves out.
    "pipeline/pressure.py",
    "pipeline/left_out.py",
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
    "measure/mixture",
    "measure/joint",
    "measure/bulge_disk.py",
    "simulate/galaxy_zoo.py",
)


def imports(path: Path, inside_functions: bool) -> Iterator[str]:
    """Yield the dotted names that a module imports, type-checking blocks left out."""
    for node in _nodes(ast.parse(path.read_text()), inside_functions):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


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


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_a_module_imports_only_layers_below_or_beside_it(path: Path) -> None:
    if relative(path) == "__init__.py":
        return
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path, inside_functions=True):
        if not name.startswith("raydeblend."):
            continue
        other = name.split(".")[1]
        if other == own or other not in LAYERS:
            continue
        assert LAYERS[other] <= layer_of(path), f"{relative(path)} imports {name}"
        beside = LAYERS[other] == layer_of(path) and layer_of(path) in (1, 4)
        # The protocol `survey` scores the whole pipeline, which knows nothing of evaluation.
        allowed = {("pipeline", "train"), ("evaluate", "pipeline")}
        assert not beside or (own, other) in allowed, f"{relative(path)} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_ray_is_imported_only_where_work_is_distributed(path: Path) -> None:
    name = relative(path)
    if name in RAY_HOMES:
        return
    inside = name != "cli.py"
    assert not [i for i in imports(path, inside) if i.split(".")[0] == "ray"], name


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_torch_is_imported_only_by_networks_and_the_mixture_fitter(path: Path) -> None:
    name = relative(path)
    found = [i for i in imports(path, True) if i.split(".")[0] == "torch"]
    assert not found or name.startswith(TORCH_HOMES), f"{name} imports {found}"


def test_the_rules_see_a_forbidden_import(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def f():\n    import ray.data\n")
    assert list(imports(module, inside_functions=True)) == ["ray.data"]
    assert list(imports(module, inside_functions=False)) == []
