"""Imports point downwards only, no two modules import each other, and no file is too long to read at once.

The floors are data: a new module is on one of them, or the test names it.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 400

TREES = {
    "roomcast": set[str](),
    "lambdas": {"roomcast"},
    "roomcast_cdk": {"roomcast", "roomcast_dev.prices", "roomcast_dev.quotas"},  # facts with one owner
    "stacks": {"roomcast_cdk"},
    "roomcast_dev": {"roomcast"},
}
"""Each tree of production code, and what else it may import: another tree, or one module of it."""

FLOORS: dict[str, list[set[str]]] = {
    "roomcast": [
        {"plain_text", "values"},
        {"errors", "origins"},
        {"aws_client", "schema"},
        {"aws", "callback_url", "envelope", "metrics", "names"},
        {"connection", "rooms"},
        {"app"},
        {"settings"},
        {"management_api", "store", "tokens"},
        {"sending", "server_events"},
        {"wiring"},
        {"functions", "service"},
        {"async_service"},
        {"__init__"},
    ],
    "roomcast_dev": [
        {"contract", "env_file", "outputs", "prices", "quotas", "recorder", "records"},
        {"checker"},
        {"local"},
        {"testing"},
        {"cli", "pytest_plugin"},
    ],
    "roomcast_dev.local": [
        {"console", "environment", "errors"},
        {"template", "wire"},
        {"aws"},
        {"assembly", "demo", "faults", "handover", "lambda_host", "ministack"},
        {"api_gateway", "queues"},
        {"stack"},
        {"project"},
        {"run"},
    ],
    "roomcast_dev.local.api_gateway": [
        {"connection", "limits", "problem"},
        {"events", "integration", "management", "sends"},
        {"authorizer", "messages"},
        {"handshake"},
        {"gateway"},
    ],
    "roomcast_dev.local.lambda_host": [{"invocation", "output", "runtime_api", "worker"}, {"pool"}, {"host"}],
    "roomcast_dev.local.ministack": [{"process", "server"}],
    "roomcast_dev.local.template": [{"model", "references"}, {"emulated"}, {"reader"}],
    "roomcast_dev.local.wire": [{"messages", "sockets"}, {"websocket"}, {"http"}],
}
"""From the ground up: the modules and folders of a package. Each may import only what is on a lower floor, or
in its own folder. Two on one floor do not know each other."""


def modules(root: Path, tree: str) -> dict[str, Path]:
    """The modules of a tree by their dotted names; a package is `package.__init__`."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts): path
        for path in sorted((root / tree).rglob("*.py"))
    }


def imports(path: Path, known: dict[str, Path], *, at_import: bool = False) -> Iterator[str]:
    """The known modules that a file imports, wherever the statement is.

    Args:
        at_import: only those that are imported when the file is: not in functions, not for types.
    """
    for node in (
        _at_import(ast.parse(path.read_text())) if at_import else ast.walk(ast.parse(path.read_text()))
    ):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = str(node.module)
            inside = [f"{module}.{alias.name}" for alias in node.names]
            names = [name if _is_known(name, known) else module for name in inside]
        else:
            continue
        for name in names:
            if name in known:
                yield name
            elif f"{name}.__init__" in known:
                yield f"{name}.__init__"


def _is_known(name: str, known: dict[str, Path]) -> bool:
    return name in known or f"{name}.__init__" in known


def _at_import(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in tree.body:
        if isinstance(node, ast.If | ast.Try):
            if "TYPE_CHECKING" not in ast.dump(node):
                yield from (inner for inner in ast.walk(node) if isinstance(inner, ast.stmt))
        else:
            yield node


def climbs(root: Path) -> list[str]:
    """Every import that does not point downwards, as a sentence."""
    known = {name: path for tree in TREES for name, path in modules(root, tree).items()}
    found: list[str] = []
    for name, path in known.items():
        tree = name.split(".")[0]
        for target in imports(path, known):
            other = target.split(".")[0]
            if other != tree and not {other, target} & TREES[tree]:
                found.append(f"{name} imports {target}: {tree} may not know {other}")
            for package, floors in FLOORS.items():
                upper, lower = room(name, package), room(target, package)
                if upper and lower and upper != lower and not _below(floors, lower, upper):
                    found.append(f"{name} imports {target}: {lower} is not below {upper}")
    return found


def room(name: str, package: str) -> str | None:
    """The part of a module's name under a package; None if the module is elsewhere."""
    return name[len(package) + 1 :].split(".")[0] if name.startswith(f"{package}.") else None


def _below(floors: list[set[str]], lower: str, upper: str) -> bool:
    floor_of = {name: index for index, floor in enumerate(floors) for name in floor}
    return floor_of.get(lower, 0) < floor_of.get(upper, 0)


@pytest.mark.parametrize("package", FLOORS)
def test_every_module_is_on_one_floor(package: str) -> None:
    there = {room(name, package) for name in modules(ROOT, package.split(".")[0])} - {None, "__init__"}
    named = [name for floor in FLOORS[package] for name in floor if name != "__init__"]
    assert len(named) == len(set(named))
    assert set(map(str, there)) <= set(named)


def test_imports_point_downwards() -> None:
    assert climbs(ROOT) == []


def test_no_two_modules_import_each_other() -> None:
    known = {name: path for tree in TREES for name, path in modules(ROOT, tree).items()}
    graph = {
        name: {target for target in imports(path, known, at_import=True) if target != name}
        for name, path in known.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_a_climb_would_be_found(tmp_path: Path) -> None:
    for name, text in {
        "roomcast/errors.py": "def late():\n    from roomcast.store.rows import Row\n",
        "roomcast/store/__init__.py": "",
        "roomcast/store/rows.py": "from roomcast import errors, tokens\nimport roomcast_dev.testing\n",
        "roomcast/tokens.py": "",
        "roomcast_dev/testing.py": "import roomcast.store.rows",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert climbs(tmp_path) == [
        "roomcast.errors imports roomcast.store.rows: store is not below errors",
        "roomcast.store.rows imports roomcast.tokens: tokens is not below store",
        "roomcast.store.rows imports roomcast_dev.testing: roomcast may not know roomcast_dev",
    ]


def test_no_production_file_is_longer_than_a_reader_can_hold() -> None:
    files = [path for tree in TREES for path in modules(ROOT, tree).values()] + [ROOT / "app.py"]
    files += sorted((ROOT / "client" / "src").glob("*.ts*"))
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}
