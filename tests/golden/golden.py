"""golden.json: what it holds, how it is told apart from what a run made, and how it is written anew.

versions   of the packages that made it, to be looked at where bytes differ
cases      case -> stage -> kind, fingerprint, digest of stage.json, config; digests of all files unless by a float model
machines   CPU -> case -> stage -> digests of all files of the other stages, which are promised for one kind of machine only
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("golden.json")
CPUINFO = Path("/proc/cpuinfo")
PLAIN = ("kind", "fingerprint", "stage")
BYTES = ("units", "beside", "files")  # name -> sha256: below units/, elsewhere in the stage folder, in the place of the export
Noted = Mapping[str, Mapping[str, Mapping]]  # case -> stage -> what is noted of it


@dataclass(frozen=True)
class Difference:
    """One line of the report."""

    case: str
    stage: str
    what: str

    def __str__(self) -> str:
        return f"{self.case}  {self.stage}  {self.what}"


def read() -> dict:
    return json.loads(FILE.read_bytes()) if FILE.exists() else {"versions": {}, "cases": {}, "machines": {}}


def cpu() -> str:
    """The model of this CPU, as the kernel names it."""
    found = dict(re.findall(r"^(model name|cpu family|model)\s*: (.*)$", CPUINFO.read_text(), re.MULTILINE)) if CPUINFO.exists() else {}
    return f"{found.get('model name', 'unknown')} family {found.get('cpu family', '?')} model {found.get('model', '?')}"


def machine() -> str:
    """What the bytes of float models depend on beside the versions: the CPU, and the instructions that torch uses of it."""
    import torch

    return f"{cpu()}, {torch.backends.cpu.get_cpu_capability()}"


def known_machine(golden: Mapping) -> str | None:
    """This machine's key, if golden.json has it. Imports torch only where it has one of this CPU."""
    if not any(key.startswith(f"{cpu()}, ") for key in golden["machines"]):
        return None
    return key if (key := machine()) in golden["machines"] else None


def split(found: Noted) -> tuple[dict, dict]:
    """What a run made as the two parts of golden.json: `cases`, and this machine's entry of `machines`."""
    cases: dict[str, dict] = {case: {} for case in found}
    bound: dict[str, dict] = {case: {} for case in found}
    for case, stages in found.items():
        for stage, noted in stages.items():
            digests = {key: noted[key] for key in BYTES if noted[key]}
            cases[case][stage] = {key: noted[key] for key in (*PLAIN, "config")} | ({} if noted["floats"] else digests)
            if noted["floats"]:
                bound[case][stage] = digests
    return cases, {case: stages for case, stages in bound.items() if stages}


def differences(golden: Noted, now: Noted) -> Iterator[Difference]:
    """Where two of the same part differ, in the order of `now`."""
    for case in [*now, *(c for c in golden if c not in now)]:
        then, made = golden.get(case, {}), now.get(case, {})
        for stage in [*made, *(s for s in then if s not in made)]:
            if stage not in then:
                yield Difference(case, stage, "is not in golden.json")
            elif stage not in made:
                yield Difference(case, stage, "was not made")
            else:
                yield from (Difference(case, stage, what) for what in _of_stage(then[stage], made[stage]))


def _of_stage(then: Mapping, now: Mapping) -> Iterator[str]:
    for key in PLAIN:
        if then.get(key) != now.get(key):
            yield f"{key if key != 'stage' else 'stage.json (without versions and config)'}: {then.get(key)} -> {now.get(key)}"
    yield from _of_values("config", then.get("config"), now.get("config"))
    for key in BYTES:
        old, new = then.get(key, {}), now.get(key, {})
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                how = "is new" if name not in old else "is missing" if name not in new else f"{old[name][:12]} -> {new[name][:12]}"
                yield f"{key}/{name}: {how}"


def _of_values(where: str, then: object, now: object) -> Iterator[str]:
    """The leaves of two values of JSON that differ."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in sorted({*then, *now}):
            if key not in then or key not in now:
                yield f"{where}.{key} = {(then if key in then else now)[key]!r} {'is missing' if key in then else 'is new'}"
            else:
                yield from _of_values(f"{where}.{key}", then[key], now[key])
    elif then != now:
        yield f"{where}: {then!r} -> {now!r}"


def written(golden: Mapping, found: Noted, versions: Mapping[str, str], key: str) -> dict:
    """golden.json with what a run on machine `key` made. Others' entries stay if no fingerprint has changed."""
    cases, bound = split(found)
    same = _fingerprints(golden["cases"]) == _fingerprints(cases)
    others = {k: v for k, v in golden["machines"].items() if k != key} if same else {}
    return {"versions": dict(versions), "cases": cases, "machines": others | {key: bound}}


def write(golden: Mapping) -> None:
    FILE.write_text(_text(golden) + "\n", encoding="utf-8")


def _fingerprints(cases: Noted) -> dict[str, dict[str, str]]:
    return {case: {stage: noted["fingerprint"] for stage, noted in stages.items()} for case, stages in cases.items()}


def _text(value: object, indent: str = "", config: bool = False) -> str:
    """JSON with a line for each digest, and one for each config."""
    if not isinstance(value, Mapping) or not value or config:
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    rows = (f"{indent} {json.dumps(key, ensure_ascii=False)}: {_text(value[key], indent + ' ', key == 'config')}" for key in sorted(value))
    return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
