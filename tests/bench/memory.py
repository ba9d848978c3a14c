"""Resident memory of the launcher and of workers over many units: it must be flat, however long a run is.

    python -m tests.bench.memory [--units 10000] [--overrides KEY=VALUE ...]

A run of units of one sample each: captions by templates, pictures of 16 x 16 pixels by the embedded model with one step, a filter, and
exports. One worker a stage; the launcher lives through all of them. A row is a stage: MB when so many units were committed.
--overrides model=external 'model.command=[python,draw.py]' with the example of docs/external.md is quicker.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
MARKS = (100, 1_000, 5_000, 10_000)
LOOK = 0.2  # seconds between two looks


def overrides(units: int) -> list[str]:
    """A run whose captions and images stages have so many units; a multiple of 20."""
    return [
        *("prompts=class_name", f"captions.per_class={units // 20}", "captions.unit_size=1", "captions.window=1"),
        *("images.height=16", "images.width=16", "images.steps=1", "images.unit_size=1", "images.batch_size=1"),
        *("filter=[near_duplicates]", "export=[image_folder,webdataset]", f"export.webdataset.shard={max(1, units // 100)}"),
        *("prompts.templates=" + str([f"picture {n} of a {{}}" for n in range(units // 20)]).replace("'", '"'), "cluster.n_jobs=1"),
    ]  # fmt: skip


def rss(pid: int) -> float:
    """MB; 0 where the process is gone."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


class Committed:
    """How many units of a stage its workers committed, by their events; each line is read once."""

    def __init__(self, stage: Path):
        self.events, self.units, self._read = stage / "events", 0, {}

    def look(self) -> tuple[int, int]:
        """(pid of the newest worker, or 0; units)"""
        pid = 0
        for path in sorted(self.events.glob("*.jsonl")):
            pid = int(path.stem.split("-")[-2])
            with path.open("rb") as f:
                f.seek(self._read.get(path, 0))
                new = f.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            self.units += whole.count(b'"event": "unit"')
        return pid, self.units


def watch(process: subprocess.Popen, runs: Path) -> Iterator[tuple[str, int, float, float]]:
    """(stage, units, MB of its worker, MB of the launcher) as they change, until the run ends."""
    stages: dict[Path, Committed] = {}
    while process.poll() is None:
        for path in runs.glob("*/*/stage.json"):
            stages.setdefault(path.parent, Committed(path.parent))
        for path, stage in stages.items():
            before = stage.units
            pid, units = stage.look()
            if units > before and (size := rss(pid)):
                yield path.name.rpartition("-")[0], units, size, rss(process.pid)
        time.sleep(LOOK)


def measure(units: int, folder: Path, more: list[str]) -> dict[str, list[tuple[int, float, float]]]:
    """stage -> (units, MB of its worker, MB of the launcher), in order."""
    words = [sys.executable, "launch/run.py", f"runs_dir={folder / 'runs'}", *overrides(units), *more]
    found: dict[str, list[tuple[int, float, float]]] = {}
    env = os.environ | {"PYTHONPATH": str(REPO), "CUDA_VISIBLE_DEVICES": ""}
    with open(folder / "log", "wb") as log, subprocess.Popen(words, cwd=REPO, env=env, stdout=log, stderr=subprocess.STDOUT) as process:
        try:
            for stage, made, worker, launcher in watch(process, folder / "runs"):
                found.setdefault(stage, []).append((made, worker, launcher))
        finally:
            process.terminate()  # if we end early: its workers drain
    if process.returncode:
        raise SystemExit((folder / "log").read_text(errors="replace")[-3000:])
    return found


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--units", type=int, default=10_000)
    p.add_argument("--overrides", nargs="*", default=[], help="more of launch/run.py")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args.units, Path(folder), args.overrides)
    print(f"{'':18}" + "".join(f"{f'{mark:,} units':>16}" for mark in MARKS) + "     MB of the worker, of the launcher")
    for stage, looks in found.items():
        cells = []
        for mark in MARKS:
            at = next((look for look in looks if look[0] >= mark), None)
            cells.append(f"{at[1]:8.1f},{at[2]:6.1f}" if at else "-")
        print(f"{stage:18}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
