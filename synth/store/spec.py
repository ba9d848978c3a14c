"""What a stage is: stage.json, its fingerprint and the slices of its slots. Pure; imports nothing heavy."""

import bisect
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field

from synth import foreign
from synth.errors import InputError
from synth.foreign import Maybe, Shape, whole
from synth.store.samples import Unit

UNSTATED = ""  # framing of a stage that was planned before stage.json stated it
AGAIN = "remove it and run the command that planned the stage"  # that command does not write over what it cannot read
OTHER_VERSION = "use the one that planned it, or another runs_dir"
SCHEMA = 1  # raise it when the meaning of stored bytes changes
# Most units of a stage: their numbers have six digits, and who looks at a stage lists them all. Most slots of a unit: its index is one
# piece of JSON that is held in memory. Both are far above what anyone plans, and far below what would fill a machine's memory.
MOST_UNITS, MOST_IN_UNIT = 10**6, 10**7
_NAME = Shape("a name: printable text without /", lambda v: foreign.fits(v, foreign.WORD) and bool(v) and "/" not in v and v[0] != ".")
_NUMBER = whole(0, MOST_UNITS * MOST_IN_UNIT)
_MARK = Shape("a hash or another mark", lambda v: foreign.fits(v, foreign.WORD) and len(v) <= 1000)
_PATH = Shape("a path", lambda v: type(v) is str and "\0" not in v)
_OUT = Shape("an object with, if any, a path in 'out'", lambda v: type(v) is dict and foreign.fits(v.get("out", ""), _PATH))
# what stage.json holds; the shape of its config is the kind's affair
_FIELDS = {
    "kind": _NAME,
    "name": _NAME,
    "config": _OUT,
    "slots": _NUMBER,
    "unit_size": whole(1, MOST_IN_UNIT),
    "batch": whole(1, MOST_IN_UNIT),
    "numerics": dict,
    "upstream": {str: list},
    "inputs": {str: _MARK},
    "versions": {str: str},
    "framing": Maybe(_MARK, UNSTATED),
    "ends": Maybe([_NUMBER], []),
    "fingerprint": _MARK,
    "base": _MARK,
}
_NUMERICS = {"name": Maybe(_MARK), "threads": Maybe(whole(1, 4096)), "deterministic": Maybe(bool)} | dict.fromkeys(
    ("cpu", "cuda"), Maybe({str: (str, bool)})
)


def canonical(data: object) -> bytes:
    """The one JSON encoding that is hashed or stored: sorted keys, no spaces, UTF-8."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(data: object) -> str:
    return hashlib.sha256(canonical(data)).hexdigest()


@dataclass(frozen=True)
class Upstream:
    """A stage that this one reads. `path` is relative to the stage folder ("../captions-0123456789ab") or absolute."""

    path: str
    fingerprint: str


@dataclass(frozen=True)
class InputFile:
    """A file or folder that the stage reads. `identity` is of its content and is part of the fingerprint; `path` is not."""

    path: str
    identity: str


@dataclass(frozen=True)
class StageSpec:
    """Everything that stage.json holds. Frozen once the stage is planned."""

    kind: str
    name: str  # what the folder is called before the hash
    config: Mapping  # synth.config.dump(...) of the kind's dataclass
    slots: int
    unit_size: int
    batch: int
    numerics: Mapping
    upstream: Mapping[str, tuple[Upstream, ...]] = field(default_factory=dict)
    inputs: Mapping[str, InputFile] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)  # for people; not in the fingerprint
    # how, not what: addresses, time limits, prices. Lives in inputs.json, is renewed at every planning, is in no fingerprint
    settings: Mapping = field(default_factory=dict)
    framing: str = "tar"  # of its units, a key of synth.store.framing.FRAMINGS; the kind's, so not in the fingerprint
    # the slot behind each unit, where units differ in size (unit_size is then the largest); (): unit_size slots each
    ends: tuple[int, ...] = ()
    # made with the folder; an input's identity stands for them
    files: Mapping[str, bytes] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.slots < 0 or self.unit_size < 1 or self.batch < 1:
            raise InputError(f"stage {self.name}: slots {self.slots}, unit_size {self.unit_size}, batch {self.batch} must be positive")
        sizes = [b - a for a, b in zip((0, *self.ends), self.ends, strict=False)]
        if self.ends and (min(sizes) < 1 or max(sizes) != self.unit_size or self.ends[-1] != self.slots):
            raise InputError(
                f"stage {self.name}: units end at {self.ends[:3]}..{self.ends[-1]}, "
                f"which is not {self.slots} slots in units of at most {self.unit_size}"
            )
        if self.n_units > MOST_UNITS or self.unit_size > MOST_IN_UNIT:
            raise InputError(
                f"stage {self.name}: {self.slots:,} slots in units of {self.unit_size:,} are {self.n_units:,} units; "
                f"at most {MOST_UNITS:,} units of at most {MOST_IN_UNIT:,} slots are handled: choose another unit_size, or fewer slots"
            )

    @property
    def base(self) -> str:
        """Fingerprint without slots and upstream: stages that agree in it may share units whose inputs agree."""
        return digest(
            {
                "schema": SCHEMA,
                "kind": self.kind,
                "config": self.config,
                "numerics": self.numerics,
                "unit_size": self.unit_size,
                "batch": self.batch,
                "inputs": {role: i.identity for role, i in self.inputs.items()},
            }
            | ({"ends": self.ends} if self.ends else {})
        )[:16]

    @property
    def fingerprint(self) -> str:
        upstream = {role: [u.fingerprint for u in ups] for role, ups in self.upstream.items()}
        return digest({"base": self.base, "slots": self.slots, "upstream": upstream})[:12]

    @property
    def folder_name(self) -> str:
        return f"{self.name}-{self.fingerprint}"

    @property
    def n_units(self) -> int:
        return len(self.ends) or -(-self.slots // self.unit_size)

    def unit_of(self, slot: int) -> int:
        """The number of the unit that holds a slot."""
        return bisect.bisect_right(self.ends, slot) if self.ends else slot // self.unit_size

    def units_of(self, start: int, stop: int) -> range:
        """The numbers of the units that hold slots [start, stop)."""
        return range(self.unit_of(start), self.unit_of(stop - 1) + 1) if start < stop else range(0)

    def unit(self, number: int) -> Unit:
        if self.ends:
            return Unit(number, self.ends[number - 1] if number else 0, self.ends[number])
        start = number * self.unit_size
        return Unit(number, start, min(self.slots, start + self.unit_size))

    def slots_in(self, units: Collection[int]) -> int:
        """Slots of some units."""
        if self.ends:
            return sum(len(self.unit(n)) for n in units)
        short = self.n_units * self.unit_size - self.slots if self.n_units - 1 in units else 0  # the last unit may be
        return len(units) * self.unit_size - short

    def batches(self, unit: Unit) -> list[range]:
        """The slot ranges of a unit that are computed together."""
        return [range(s, min(unit.stop, s + self.batch)) for s in range(unit.start, unit.stop, self.batch)]

    def to_json(self) -> bytes:
        """stage.json: the fields of STATED, `ends` where there are some."""
        data = asdict(self)
        del data["inputs"], data["settings"], data["files"]
        if not self.ends:
            del data["ends"]
        data["inputs"] = {role: i.identity for role, i in self.inputs.items()}
        data |= {"schema": SCHEMA, "fingerprint": self.fingerprint, "base": self.base}
        return json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"

    @staticmethod
    def from_json(data: bytes, input_paths: Mapping[str, str], where: str, settings: Mapping | None = None) -> "StageSpec":
        """Read stage.json back; `input_paths` and `settings` come from inputs.json. A torn or foreign file is an InputError."""
        bad, fix = f"{where}: not a stage.json", AGAIN
        raw = foreign.parse(data, bad, fix)
        if (schema := foreign.obj(raw, bad, fix, schema=int)["schema"]) != SCHEMA:
            raise InputError(f"{where}: schema {foreign.seen(schema)}, this version reads {SCHEMA}: {OTHER_VERSION}")
        if unknown := sorted(raw.keys() - STATED):
            raise InputError(f"{where}: {foreign.seen(unknown[0])} is not known to this version: {OTHER_VERSION}")
        fields = foreign.obj(raw, bad, fix, **_FIELDS)
        foreign.obj(fields["numerics"], f"{bad}: numerics", fix, **_NUMERICS)
        upstream = {
            role: tuple(
                Upstream(**foreign.obj(up, f"{bad}: upstream {foreign.seen(role)}", fix, path=_PATH, fingerprint=_MARK)) for up in ups
            )
            for role, ups in fields["upstream"].items()
        }
        stated = fields.pop("fingerprint"), fields.pop("base")
        fields |= {"upstream": upstream, "ends": tuple(fields["ends"]), "settings": dict(settings or {})}
        fields["inputs"] = {role: InputFile(input_paths.get(role, ""), identity) for role, identity in fields["inputs"].items()}
        try:
            spec = StageSpec(**fields)
        except InputError as e:
            raise InputError(f"{bad}: {e}") from e
        actual = spec.fingerprint, spec.base
        if stated != actual:
            raise InputError(
                f"{where}: edited after it was planned (fingerprint and base {actual}, it says {stated}); put it back or plan anew"
            )
        return spec


# the keys of stage.json; one that is not among them means something to another version, and may change what the rest means
STATED = frozenset(StageSpec.__dataclass_fields__) - {"settings", "files"} | {"schema", "fingerprint", "base"}
