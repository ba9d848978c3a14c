"""The floors of the house: an import goes down, never up, and never in a circle; imports inside functions included."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Low to high. Folders of one floor do not import each other, but for those named in BESIDE.
FLOORS = (
    ("synth.terminal",),
    ("synth.redaction",),
    ("synth.errors", "synth.seeds", "synth.numerics", "synth.versions"),
    ("synth.foreign",),
    ("synth.keys", "synth.weights", "synth.loading", "synth.schema"),
    ("synth.layouts",),
    ("synth.host",),
    ("synth.store",),
    ("synth.kinds",),
    ("synth.run",),
    ("synth.reading",),
    ("synth.captions",),
    ("synth.images",),
    ("synth.features",),
    ("synth.lora",),
    ("synth.filters", "synth.export"),
    ("synth.tracking", "synth.story", "synth.layout", "synth.judge"),
    ("synth.verify",),
    ("synth.worker",),
    ("launch.config",),
    ("launch.plan",),
    ("launch.show",),
    ("launch.slurm", "launch.local"),
    ("launch.reporting", "launch.checkup"),
    ("launch",),  # the commands
)
ASIDE = ("synth.embedded",)  # scripts and pictures that ship: nothing of the house imports them
ROOM = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted([*ROOT.glob("launch/**/*.py"), *ROOT.glob("synth/**/*.py")]):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith(ASIDE):
            found[name] = path
    return found


MODULES = modules()


def room_of(module: str) -> str:
    """The folder or single module of FLOORS that a module belongs to."""
    parts = module.split(".")
    return next((r for n in range(len(parts), 0, -1) if (r := ".".join(parts[:n])) in ROOM), module)


@cache
def imports(module: str, lazy: bool = True) -> frozenset[str]:
    """The modules of the house that a module imports; imports for type checkers alone are left out."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in _nodes(tree, lazy):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [sub if (sub := f"{node.module}.{a.name}") in MODULES else node.module for a in node.names]
        else:
            continue
        found |= {n for n in names if n in MODULES and n != module}
    return frozenset(found)


def _nodes(node: ast.AST, lazy: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if not lazy and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        yield child
        yield from _nodes(child, lazy)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected parts of more than one node (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(v: str) -> None:
        index[v] = low[v] = len(index)
        stack.append(v)
        for w in sorted(graph[v]):
            if w not in index:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in stack:
                low[v] = min(low[v], index[w])
        if low[v] == index[v]:
            part = stack[stack.index(v) :]
            del stack[stack.index(v) :]
            if len(part) > 1:
                found.append(sorted(part))

    for v in sorted(graph):
        if v not in index:
            visit(v)
    return found


def test_every_module_has_a_floor():
    assert not [m for m in MODULES if room_of(m) not in ROOM and m != "synth"]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_an_import_goes_down(module):
    mine = room_of(module)
    up = [
        other
        for other in sorted(imports(module))
        if other != "synth" and module != "synth" and room_of(other) != mine and ROOM[room_of(other)] >= ROOM[mine]
    ]
    assert not up, f"{module} (floor {ROOM.get(mine)}) imports {', '.join(up)}"


def test_no_circle_of_files():
    # a package's own module stands for its folder: `synth.captions.prompts` is imported by what lies in it
    assert circles({m: set(imports(m)) for m in MODULES}) == []


def test_no_circle_of_folders():
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        graph.setdefault(room_of(module), set()).update(room_of(o) for o in imports(module))
    assert circles({room: {o for o in others if o in graph and o != room} for room, others in graph.items()}) == []
