"""Sample configs as plain JSON data, and back, with every type checked."""

import dataclasses
import types
import typing
from collections.abc import Mapping

from synth.errors import InputError


def dump(config) -> dict:
    """A config as plain JSON data (tuples become lists)."""
    return _plain(dataclasses.asdict(config))


def _plain(value):
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def build(tp, value, where: str):
    """A value of type `tp` (dataclass, tuple, mapping, scalar) from plain data; `where` names it in an InputError."""
    origin = typing.get_origin(tp)
    if dataclasses.is_dataclass(tp):
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: expected a mapping, got {type(value).__name__}")
        hints = typing.get_type_hints(tp)
        unknown = sorted(set(value) - set(hints))
        missing = [f.name for f in dataclasses.fields(tp) if f.name not in value and _required(f)]
        if unknown or missing:
            raise InputError(f"{where}: unknown keys {unknown}, missing keys {missing}; was it written by another version?")
        return tp(**{name: build(hints[name], value[name], f"{where}.{name}") for name in hints if name in value})
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where}: expected a list, got {value!r}")
        return tuple(build(typing.get_args(tp)[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin in (dict, Mapping) or (origin is not None and issubclass(origin, Mapping)):
        args = typing.get_args(tp)
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: expected a mapping, got {value!r}")
        return {k: build(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if tp is typing.Any or isinstance(tp, types.GenericAlias):
        return value
    if tp is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, tp) or (tp is int and isinstance(value, bool)):
        raise InputError(f"{where}: expected {tp.__name__}, got {value!r}")
    return value


def _required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
