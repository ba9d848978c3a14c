"""The part of JSON Schema (draft 2020-12) that the schemas here use, without a package: any validator reads the files, this one, too.

A keyword that it does not know is an error, so that no schema promises what nobody checks.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from synth.foreign import seen

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, Mapping),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: (isinstance(v, int) and not isinstance(v, bool)) or (isinstance(v, float) and v.is_integer()),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
}
_NOTES = frozenset(["$schema", "$id", "$defs", "title", "description", "examples"])


def violations(value: Any, schema: Mapping, root: Mapping | None = None, at: str = "") -> Iterator[str]:
    """What of a parsed value breaks a schema, in words, each with its place. ValueError for a keyword that is not known here.

    >>> list(violations({"a": [1, -1]}, {"properties": {"a": {"items": {"minimum": 0}}}, "required": ["b"]}))
    ['a[1] is -1, below 0', 'has no b']
    """
    root = schema if root is None else root
    if "$ref" in schema:
        yield from violations(value, _defined(root, schema["$ref"]), root, at)
    if "type" in schema and not _is(value, schema["type"]):
        yield f"{at or 'it'} is {seen(value)}, expected {schema['type']}"
        return
    for keyword, wanted in schema.items():
        if keyword not in ("$ref", "type") and keyword not in _NOTES:
            if keyword not in _KEYWORDS:
                raise ValueError(f"the schema has the keyword {keyword!r}, which is not checked here")
            yield from _KEYWORDS[keyword](value, wanted, schema, root, at)


def _is(value: Any, types: str | list[str]) -> bool:
    return any(_TYPES[t](value) for t in ([types] if isinstance(types, str) else types))


def _defined(root: Mapping, ref: str) -> Mapping:
    found: Any = root
    for part in ref.removeprefix("#/").split("/"):
        found = found[part]
    return found


def _properties(value: Any, wanted: Mapping, schema: Mapping, root: Mapping, at: str) -> Iterator[str]:
    for name, sub in wanted.items() if isinstance(value, Mapping) else ():
        if name in value:
            yield from violations(value[name], sub, root, f"{at}.{name}" if at else name)


def _required(value: Any, wanted: list, schema: Mapping, root: Mapping, at: str) -> Iterator[str]:
    for name in wanted if isinstance(value, Mapping) else ():
        if name not in value:
            yield f"{at} has no {name}".strip()


def _additional(value: Any, wanted: Any, schema: Mapping, root: Mapping, at: str) -> Iterator[str]:
    for name in value if isinstance(value, Mapping) else ():
        if name not in schema.get("properties", {}):
            place = f"{at}.{name}" if at else name
            if wanted is False:
                yield f"{place} is no field of it"
            elif isinstance(wanted, Mapping):
                yield from violations(value[name], wanted, root, place)


def _items(value: Any, wanted: Mapping, schema: Mapping, root: Mapping, at: str) -> Iterator[str]:
    for n, one in enumerate(value if isinstance(value, list) else ()):
        yield from violations(one, wanted, root, f"{at}[{n}]")


def _unique(value: Any, wanted: bool, schema: Mapping, root: Mapping, at: str) -> Iterator[str]:
    if wanted and isinstance(value, list) and len({repr(v) for v in value}) < len(value):
        yield f"{at or 'it'} holds something twice"


def _told(test: Callable[[Any, Any], bool], types: str | list[str], why: str) -> Callable[..., Iterator[str]]:
    """A keyword about values of some types: broken where `test` says so."""

    def check(value: Any, wanted: Any, schema: Mapping, root: Mapping, at: str) -> Iterator[str]:
        if _is(value, types) and test(value, wanted):
            yield f"{at or 'it'} is {seen(value)}, {why.format(wanted)}"

    return check


_KEYWORDS: dict[str, Callable[..., Iterator[str]]] = {
    "properties": _properties,
    "required": _required,
    "additionalProperties": _additional,
    "items": _items,
    "uniqueItems": _unique,
    "const": _told(lambda v, w: v != w or type(v) is not type(w), list(_TYPES), "expected {!r}"),
    "minimum": _told(lambda v, w: v < w, "number", "below {}"),
    "maximum": _told(lambda v, w: v > w, "number", "above {}"),
    "minItems": _told(lambda v, w: len(v) < w, "array", "fewer than {} items"),
    "maxItems": _told(lambda v, w: len(v) > w, "array", "more than {} items"),
    "minLength": _told(lambda v, w: len(v) < w, "string", "shorter than {} characters"),
    "pattern": _told(lambda v, w: re.search(w, v) is None, "string", "not of the form {}"),
}
