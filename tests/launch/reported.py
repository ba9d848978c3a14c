"""Runs whose figures are known, written without a worker: stages, units and events."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from synth.keys import dump
from synth.numerics import EXACT
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone
from synth.store.spec import InputFile, StageSpec, Upstream, canonical
from tests.fixtures_images import IMAGES, captions_json_stage, captions_stage, commit_units, work

H100 = "NVIDIA H100"
HOUR = 3600


def png(slot: int, size: int = 4) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), slot * 5 % 256, np.uint8)).save(out, "PNG")
    return out.getvalue()


def table_stage(root: Path, captions: Sequence, classes: Sequence[str], total: int) -> StageFolder:
    texts = captions_stage(root, list(captions), classes=tuple(classes))
    table = captions_json_stage(root, [texts], total)
    assert work(table) == 0
    gone = sum(not isinstance(c, str) for c in captions)
    texts.mark_done({"units": texts.spec.n_units, "slots": len(captions), "samples": len(captions) - gone, "tombstones": gone})
    return table


def images_stage(
    root: Path, table: StageFolder, captions: Sequence[str], classes: Sequence[str], dead: Mapping[int, str] | None = None, **config
) -> StageFolder:
    """A stage of a picture a caption, whole; dead: slot -> why it has none."""
    slots = len(captions)
    upstream = {"captions": (Upstream(f"../{table.path.name}", table.spec.fingerprint),)}
    inputs = {"model": InputFile("/models/<b>", "0" * 64)}
    spec = StageSpec("images", "images", dump(replace(IMAGES, **config)), slots, 4, 2, EXACT, upstream, inputs)
    folder = StageFolder.create(root, spec)
    results: list[Sample | Tombstone] = []
    for slot, caption in enumerate(captions):
        label = slot % len(classes)
        record = {"caption": caption, "class": classes[label], "label": label, "seed": 100 + slot, "caption_seed": slot}
        sample = Sample(slot, f"{slot:09d}", {"png": png(slot), "json": canonical(record)})
        results.append(Tombstone(slot, dead[slot]) if slot in (dead or {}) else sample)
    commit_units(folder, results)
    return folder


def write_events(folder: StageFolder, worker: str, *events: Mapping) -> None:
    lines = "".join(json.dumps(e) + "\n" for e in events)
    (folder.path / "events" / f"{worker}.jsonl").write_text(lines)


def start(at: float, job: int = 0, node: str = "n1", **more) -> dict:
    return {"event": "start", "time": at, "job_idx": job, "host": node, "node": node, "devices": "0", "place": "gpu 0", **more}


def opened(at: float, device: str = H100, **versions: str) -> dict:
    return {"event": "open", "time": at, "seconds": 10.0, "device": device, "versions": {"torch": "2.9", **versions}}


def unit(at: float, number: int, seconds: float, samples: int = 4, tombstones: int = 0, outcome: str = "ours") -> dict:
    return {
        "event": "unit",
        "time": at,
        "unit": number,
        "seconds": seconds,
        "samples": samples,
        "tombstones": tombstones,
        "bytes": 1000,
        "outcome": outcome,
    }


def stop(at: float, seconds: float, code: int = 0, why: str = "done", **more) -> dict:
    return {
        "event": "stop",
        "time": at,
        "code": code,
        "why": why,
        "seconds": seconds,
        "busy_s": 0.8 * seconds,
        "idle_s": 0.2 * seconds,
        **more,
    }
