"""Sample configs as plain JSON data, and back, with every type checked."""

import dataclasses
import types
import typing
from collections.abc import Mapping

from synth.config.kinds import CONFIGS
from synth.errors import InputError


def dump(config) -> dict:
    """A config as plain JSON data (tuples become lists)."""
    return _plain(dataclasses.asdict(config))


def load(kind: str, data: Mapping):
    """The typed config of a stage kind from stage.json; an unknown or missing key or a wrong type is an InputError."""
    if kind not in CONFIGS:
        msg = f"unknown stage kind {kind!r}; known: {', '.join(sorted(CONFIGS))}"
        raise InputError(msg)
    return _build(CONFIGS[kind], data, kind)


def _plain(value):
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _build(tp, value, where: str):
    origin = typing.get_origin(tp)
    if dataclasses.is_dataclass(tp):
        if not isinstance(value, Mapping):
            msg = f"{where}: expected a mapping, got {type(value).__name__}"
            raise InputError(msg)
        hints = typing.get_type_hints(tp)
        unknown = sorted(set(value) - set(hints))
        missing = [f.name for f in dataclasses.fields(tp) if f.name not in value and _required(f)]
        if unknown or missing:
            msg = f"{where}: unknown keys {unknown}, missing keys {missing}; was it written by another version?"
            raise InputError(msg)
        return tp(**{name: _build(hints[name], value[name], f"{where}.{name}") for name in hints if name in value})
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            msg = f"{where}: expected a list, got {value!r}"
            raise InputError(msg)
        return tuple(_build(typing.get_args(tp)[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin in (dict, Mapping) or (origin is not None and issubclass(origin, Mapping)):
        args = typing.get_args(tp)
        if not isinstance(value, Mapping):
            msg = f"{where}: expected a mapping, got {value!r}"
            raise InputError(msg)
        return {k: _build(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if tp is typing.Any or isinstance(tp, types.GenericAlias):
        return value
    if tp is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, tp) or (tp is int and isinstance(value, bool)):
        msg = f"{where}: expected {tp.__name__}, got {value!r}"
        raise InputError(msg)
    return value


def _required(f: dataclasses.Field) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
