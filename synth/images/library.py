"""What the installed diffusers has, read from its sources: importing it would take seconds, and torch."""

import ast
import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Signature:
    """What a pipeline is called with, and of what it is made; both empty where its own file does not say (it inherits them)."""

    call: frozenset[str] = frozenset()  # names of the arguments of __call__
    parts: Mapping[str, str] = field(default_factory=dict)  # component -> the class that __init__ asks for, as it is written there


@cache
def version() -> str:
    return importlib.metadata.version("diffusers")


@cache
def classes() -> frozenset[str]:
    """Names of all classes that diffusers exports."""
    return frozenset(re.findall(r'"([A-Z]\w+)"', (_root() / "__init__.py").read_text("utf-8")))


@cache
def signature(pipeline: str) -> Signature:
    """Of a pipeline class; empty for what diffusers does not have. A tenth of a second: its file is looked for."""
    if pipeline not in classes():
        return Signature()
    header = f"\nclass {pipeline}(".encode()
    for file in sorted((_root() / "pipelines").rglob("pipeline_*.py")):
        if header in (source := file.read_bytes()):
            return _of_class(ast.parse(source), pipeline)
    return Signature()


def _root() -> Path:
    spec = importlib.util.find_spec("diffusers")  # of a package at the top: finds it, and runs nothing of it
    assert spec is not None and spec.origin is not None, "diffusers is a dependency of this package"
    return Path(spec.origin).parent


def _of_class(module: ast.Module, name: str) -> Signature:
    cls = next(node for node in module.body if isinstance(node, ast.ClassDef) and node.name == name)
    functions = {node.name: node.args for node in cls.body if isinstance(node, ast.FunctionDef)}
    call, init = ([*f.args[1:], *f.kwonlyargs] if (f := functions.get(n)) else [] for n in ("__call__", "__init__"))
    return Signature(frozenset(a.arg for a in call), {a.arg: ast.unparse(a.annotation) for a in init if a.annotation is not None})
