"""only=[STAGE]: its upstreams must be whole. Where they are not, the existing stages that come nearest, and what differs."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from launch.config.near import flatten
from launch.plan.planned import PlannedStage, Point
from launch.plan.state import state_of
from synth.errors import InputError, StoreError
from synth.store.folder import StageFolder
from synth.store.spec import StageSpec

AT_MOST = 3  # stages told
KEYS = 6  # differences told of each
# what auto settles by the memory of a GPU: key of a stage -> key of the command line
PICTURES = {"batch": "{group}.batch_size", "vae_batch": "{group}.vae_batch", "rows": "{group}.batch_size"}
CAPTIONS = {"batch": "captions.window", "unit_size": "captions.unit_size", "captioner.max_batch_size": "captioner.max_batch_size"}


def check_only(point: Point) -> None:
    """InputError unless all that the chosen stages read is whole, or chosen too."""
    chosen = {s.folder for s in point.chosen()}
    needed = {up for s in point.chosen() for up in s.upstream} - chosen
    for stage in point.stages:
        if stage.folder in needed and not is_whole(stage):
            state = state_of(stage)
            asked = ",".join(sorted(point.wanted or ()))
            raise InputError(f"only=[{asked}]: it reads {stage.name}, which is not whole ({state}): {stage.folder}\n{nearest(stage)}")


def is_whole(stage: PlannedStage) -> bool:
    state = state_of(stage)
    return state.done or state.gone or (state.exists and StageFolder.open(stage.folder).is_whole())


def nearest(stage: PlannedStage) -> str:
    """Lines that name the existing folders of this stage's name with the fewest differing keys, the nearest first."""
    wanted = comparable(StageSpec.from_json(stage.spec.to_json(), {}, stage.name))
    others = [
        (differences(there, wanted), path, pins(stage, there, wanted))
        for path in sorted(stage.dataset_root.glob(f"{stage.name}-*"))
        if path != stage.folder and (there := _there(path)) is not None
    ]
    if not others:
        return f"no other {stage.name} stage in {stage.dataset_root}; leave only= out, or use until= to compute what is needed"
    others.sort(key=lambda f: (len(f[0]), f[1].name))
    lines = [f"the nearest in {stage.dataset_root}:"]
    for diffs, path, pinned in others[:AT_MOST]:
        more = f" and {len(diffs) - KEYS} more" if len(diffs) > KEYS else ""
        whole = "done" if (path / "done.json").exists() else "not whole"
        lines.append(f"  {path.name} ({whole}): {', '.join(diffs[:KEYS]) or 'no key differs'}{more}")
        lines += [f"    it was planned for another GPU's memory, and only so differs: go on with it by {pinned}"] if pinned else []
    return "\n".join(lines)


def planned_elsewhere(stage: PlannedStage) -> str:
    """Of a stage that is new: the one beside it that differs by what another GPU's memory settled alone, and how to go on with it."""
    if (stage.folder / "stage.json").exists():
        return ""
    wanted = comparable(StageSpec.from_json(stage.spec.to_json(), {}, stage.name))
    for path in sorted(stage.dataset_root.glob(f"{stage.name}-*")):
        there = _there(path)
        if there is not None and (pinned := pins(stage, there, wanted)):
            return f"{stage.name}: {path.name} is there, planned for another GPU's memory; to go on with that one: {pinned}"
    return ""


def pins(stage: PlannedStage, there: Mapping[str, object], asked: Mapping[str, object]) -> str:
    """The overrides that make an existing stage of one that differs from it by its batch alone; "" where more differs, or nothing."""
    keys = CAPTIONS if stage.spec.kind == "captions" else PICTURES
    groups = {"pairs": "tracking", "story": "images"}
    found = {f"{stage.name}.{ours}": key.format(group=groups.get(stage.spec.kind, stage.spec.kind)) for ours, key in keys.items()}
    differ = {key for key in there.keys() | asked.keys() if there.get(key) != asked.get(key)}
    return " ".join(f"{found[key]}={there.get(key)}" for key in found if key in differ) if differ and differ <= set(found) else ""


def differences(there: Mapping[str, object], asked: Mapping[str, object]) -> list[str]:
    """ "captions.seed is 1, asked 0" for each key that differs."""
    keys = sorted(set(there) | set(asked))
    return [f"{k} is {_short(there.get(k))}, asked {_short(asked.get(k))}" for k in keys if there.get(k) != asked.get(k)]


def _there(path: Path) -> dict[str, object] | None:
    """`comparable` of an existing stage; None of what is torn or foreign: it is not near."""
    with contextlib.suppress(InputError, StoreError, OSError):
        return comparable(StageFolder.open(path).spec)
    return None


def comparable(spec: StageSpec) -> dict[str, object]:
    """A stage as flat keys that a person knows from the command line: config keys below the stage's name."""
    flat = flatten({spec.name: spec.config})
    flat |= {f"{spec.name}.{k}": getattr(spec, k) for k in ("slots", "unit_size", "batch")}
    flat |= {"numerics": spec.numerics.get("name")}
    flat |= {f"input {role}": file.identity[:12] for role, file in spec.inputs.items()}
    flat |= {f"upstream {role}": [Path(u.path).name for u in ups] for role, ups in spec.upstream.items()}
    return flat


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
