"""Keys of the config, each declared once: as a field of the config class of its family.

A config class is a frozen dataclass with keyword fields of three kinds:
    steps: int = key("denoising steps", low=1, null="the model's own")     what a user sets; stage.json stores what planning makes of it
    batch_size: int = plan_key("images denoised together", low=1)          what only planning needs: left out of stage.json
    model: ModelConfig = later()                                           what planning works out
A class whose options differ in their keys names the key that says which: option: ClassVar[str] = "maker".
The values of a run stand in conf/, and nowhere else. Hydra's types (`schema`), --help, the comments of conf/, the checks of ranges
(`check`), planning and the workers (`build`) read the same field.
"""

import contextlib
import dataclasses
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from synth.errors import InputError

KEY, SPARSE = "key", "sparse"  # in a field's metadata
MISSING = "???"  # omegaconf's word for a value that is nowhere given; this side does not import it


@dataclasses.dataclass(frozen=True)
class Key:
    """What is known of a key beside the type of its field."""

    help: str  # unit and meaning, in one line
    low: float | None = None  # a range begins somewhere
    high: float | None = None
    below: float | None = None  # in the place of high: it is not reached
    choices: tuple[str, ...] = ()
    span: bool = False  # [low, high], both in the range
    null: str = ""  # what null means; "": the key has a value
    given: Any = None  # the type that users write, where it is not that of the field; Any: planning judges it
    of: tuple[str, ...] = ()  # options of the group that have the key; (): all
    plan: bool = False  # only planning needs it
    sparse: bool = False  # stage.json leaves it out while it is null: stages that do without it keep the fingerprints that they had

    @property
    def allowed(self) -> str:
        """Its range in words, "" without one.

        >>> Key("", low=0, high=1).allowed, Key("", low=1).allowed, Key("", choices=("a", "b")).allowed
        ('must be from 0 to 1', 'must be 1 or more', 'use one of a, b')
        >>> Key("", low=0, high=1, span=True).allowed
        'must be [low, high], both from 0 to 1'
        """
        if self.choices:
            return f"use one of {', '.join(self.choices)}"
        if self.low is None:
            return ""
        if self.below is not None and self.below < float("inf"):
            bounds = f"{self.low:g} or more, and less than {self.below:g}"
        else:
            bounds = f"{self.low:g} or more" if self.high is None else f"from {self.low:g} to {self.high:g}"
        return f"must be [low, high], both {bounds}" if self.span else f"must be {bounds}"

    @property
    def text(self) -> str:
        """Its help and what null means, as the comments of conf/ say it."""
        return self.help + (f"; null: {self.null}" if self.null not in ("", "none") else "")

    def allows(self, value: Any) -> bool:
        """Whether a value other than null is in the range: each item of a list, or both ends of a span."""
        if self.span:
            return len(value) == 2 and value[0] <= value[1] and all(map(self._allows_one, value))
        return all(map(self._allows_one, value)) if isinstance(value, (list, tuple)) else self._allows_one(value)

    def _allows_one(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        high = value <= self.high if self.high is not None else value < self.below if self.below is not None else True
        return (self.low is None or value >= self.low) and high


def key(help: str, *, unread: Any = dataclasses.MISSING, **more: Any) -> Any:
    """A field that users set; `more` as in Key.

    unread: what stage.json says where an option of the group does not have the key, or a stage does not read it; a type is called.
    """
    default = {"default_factory": unread} if isinstance(unread, type) else {"default": unread}
    return dataclasses.field(**default, metadata={KEY: Key(help, **more)})


def plan_key(help: str, **more: Any) -> Any:
    """A field that users set and that only planning reads: a worker finds None in its place."""
    return dataclasses.field(default=None, metadata={KEY: Key(help, plan=True, **more)})


def later(default: Any = None, factory: Any = None, sparse: bool = False) -> Any:
    """A field that planning fills: stored, and no key. sparse: of what `factory` makes, left out of stage.json while it is empty."""
    return dataclasses.field(default_factory=factory, metadata={SPARSE: sparse}) if factory else dataclasses.field(default=default)


class WrongKey(InputError):
    """A value that cannot be. `key` is named below its group, which whoever knows it adds with `of`: two stages may share a key."""

    def __init__(self, key: str, value: object, why: str, fix: str = "", group: str = ""):
        super().__init__(key, value, why, fix, group)
        self.key, self.value, self.why, self.fix, self.group = key, value, why, fix, group

    def of(self, group: str) -> "WrongKey":
        """The same in a group that it does not name yet."""
        return self if self.group else WrongKey(self.key, self.value, self.why, self.fix, group)

    def called(self, key: str) -> "WrongKey":
        """The same of a key that somebody else set by it."""
        return WrongKey(key, self.value, self.why, self.fix, self.group)

    def __str__(self) -> str:
        name = f"{self.group}.{self.key}" if self.group else self.key
        return f"{name}={shown(self.value)}: {self.why}" + (f"; {self.fix}" if self.fix else "")


@contextlib.contextmanager
def of_group(group: str) -> Iterator[None]:
    """Inside, a WrongKey that does not know its group is one of this group."""
    try:
        yield
    except WrongKey as e:
        raise e.of(group) from e.__cause__


def shown(value: object) -> str:
    """A value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)


def keys_of(cls: type, option: str | None = None) -> dict[str, Key]:
    """name -> Key of the fields that users set: all of them; or those that an option of the group has ("": all options)."""
    declared = {f.name: f.metadata[KEY] for f in dataclasses.fields(cls) if KEY in f.metadata}
    return {name: k for name, k in declared.items() if option is None or not k.of or option in k.of}


def option_of(config: object) -> str | None:
    """Which option of its group a config is, by the key that its class names; None where it names none."""
    chooser = getattr(type(config), "option", "")
    return getattr(config, chooser) if chooser else None


def stored_names(cls: type) -> list[str]:
    """The fields that stage.json holds."""
    return [f.name for f in dataclasses.fields(cls) if not (KEY in f.metadata and f.metadata[KEY].plan)]


def check(config: object, group: str = "") -> None:
    """WrongKey for the first value of a config, or of one below it, that is out of its range."""
    below = f"{group}." if group else ""
    for name, declared in keys_of(type(config), option_of(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            check(value, f"{below}{name}")
        elif isinstance(value, Mapping):
            for at, inner in value.items():
                if dataclasses.is_dataclass(inner):
                    check(inner, f"{below}{name}.{at}")
        elif isinstance(value, (list, tuple)) and value and dataclasses.is_dataclass(value[0]):
            for i, inner in enumerate(value):
                check(inner, f"{below}{name}[{i}]")
        elif value is not None and declared.allowed and not declared.allows(value):
            raise WrongKey(name, value, declared.allowed, group=group)


# -- Hydra's types ---------------------------------------------------------------------------------------------------


@cache
def schema(cls: type, option: str = "") -> type:
    """The structured config of a config class, for Hydra: the keys of an option of its group, mutable, none with a value but null.

    An option's is a subclass of the group's, and a class's of its base's: so Hydra takes the one in the place of the other.
    """
    fields: list[tuple] = []
    hints = typing.get_type_hints(cls)
    for name, declared in keys_of(cls, option).items():
        tp = _given(hints[name]) if declared.given is None else declared.given
        if isinstance(tp, type) and dataclasses.is_dataclass(tp):
            fields.append((name, tp, dataclasses.field(default_factory=tp)))
        elif declared.given is not None and typing.get_origin(tp) is dict:
            fields.append((name, tp, dataclasses.field(default_factory=dict)))
        else:
            fields.append((name, (tp if tp is Any else tp | None) if declared.null else tp, None if declared.null else MISSING))
    bases = (schema(cls),) if option else tuple(schema(b) for b in cls.__bases__ if dataclasses.is_dataclass(b))
    structured = dataclasses.make_dataclass(
        cls.__name__.removesuffix("Config"), fields, bases=bases, namespace={"config_class": cls, "option": getattr(cls, "option", "")}
    )
    structured.__module__ = cls.__module__
    return structured


def dict_of(value: Any, key: Any = str) -> Any:
    """dict[key, value] of types that are made here, which a type checker does not take between brackets.

    >>> dict_of(int)
    dict[str, int]
    """
    return types.GenericAlias(dict, (key, value))


def _given(tp: Any) -> Any:
    """The type that Hydra knows in the place of a field's."""
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if isinstance(tp, type) and dataclasses.is_dataclass(tp):
        return schema(tp)
    if origin is tuple:
        return types.GenericAlias(list, (_given(args[0]),))
    if _is_mapping(origin):
        return dict_of(_given(args[1]), args[0])
    if origin is types.UnionType:
        return _given(next(a for a in args if a is not type(None)))
    return tp


def from_schema(value: Any) -> Any:
    """What Hydra composed, an instance of a `schema`, as its config class: lists become tuples."""
    if dataclasses.is_dataclass(value) and hasattr(value, "config_class"):
        return value.config_class(**{f.name: from_schema(getattr(value, f.name)) for f in dataclasses.fields(value)})
    if isinstance(value, dict):
        return {k: from_schema(v) for k, v in value.items()}
    if isinstance(value, list):
        return tuple(from_schema(v) for v in value)
    return value


# -- stage.json ------------------------------------------------------------------------------------------------------


def dump(config: Any) -> dict:
    """What stage.json holds of a config, as plain JSON data: tuples are lists, keys of planning and sparse fields that say nothing left
    out. A key that says nothing otherwise is one that planning has forgotten to fill: no worker could read it."""
    sparse = {name for name, k in keys_of(type(config)).items() if k.sparse}
    empty = {f.name for f in dataclasses.fields(config) if f.metadata.get(SPARSE)}
    values = {name: getattr(config, name) for name in stored_names(type(config))}
    if forgotten := [n for n, k in keys_of(type(config)).items() if k.null and not k.sparse and n in values and values[n] is None]:
        raise TypeError(f"{type(config).__name__}: {', '.join(forgotten)}: null is to be filled when it is planned")
    return {name: _plain(v) for name, v in values.items() if (v or name not in empty) and (v is not None or name not in sparse)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return dump(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def build(tp: Any, value: Any, where: str) -> Any:
    """A value of type `tp` (dataclass, tuple, mapping, scalar) from plain data; `where` names it in an InputError."""
    origin = typing.get_origin(tp)
    if dataclasses.is_dataclass(tp):
        return _build_config(tp, value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{where}: expected a list, got {value!r}")
        return tuple(build(typing.get_args(tp)[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if _is_mapping(origin):
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: expected a mapping, got {value!r}")
        return {k: build(typing.get_args(tp)[1], v, f"{where}.{k}") for k, v in value.items()}
    if tp is Any or isinstance(tp, types.GenericAlias):
        return value
    if tp is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, tp) or (tp is int and isinstance(value, bool)):
        raise InputError(f"{where}: expected {tp.__name__}, got {value!r}")
    return value


def _build_config(tp: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: expected a mapping, got {type(value).__name__}")
    hints, stored = typing.get_type_hints(tp), stored_names(tp)
    unknown = sorted(set(value) - set(stored))
    missing = [f.name for f in dataclasses.fields(tp) if f.name in stored and f.name not in value and _required(f)]
    if unknown or missing:
        raise InputError(f"{where}: unknown keys {unknown}, missing keys {missing}; was it written by another version?")
    return tp(**{name: build(hints[name], value[name], f"{where}.{name}") for name in stored if name in value})


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _required(f: dataclasses.Field) -> bool:
    if KEY in f.metadata and f.metadata[KEY].sparse:
        return False
    return f.default in (dataclasses.MISSING, None) and f.default_factory is dataclasses.MISSING  # None: `later`, which planning fills


def documented(cls: type, prefix: str = "", option: str | None = None) -> Iterator[tuple[str, Key]]:
    """(dotted key, Key) of a config class and of those below it."""
    hints = typing.get_type_hints(cls)
    for name, declared in keys_of(cls, option).items():
        yield f"{prefix}{name}", declared
        if dataclasses.is_dataclass(hints[name]):
            yield from documented(hints[name], f"{prefix}{name}.")


def one_of(key: str, value: object, allowed: Iterable[str]) -> None:
    """WrongKey unless a value is one of a few."""
    if value not in (names := tuple(allowed)):
        raise WrongKey(key, value, f"use one of {', '.join(names)}")
