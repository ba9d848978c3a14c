"""Runs the cases in a fresh folder and notes what they leave on disk, without an import of synthset."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from tests.golden.cases import CASES, Case
from tests.golden.clip import build_clip

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "launch" / "run.py"
RUNS = "<runs>"  # in the place of the folder of all runs, which is another one each time
# Left out of the digest of stage.json: `versions` are the machine's, `framing` may stand there, `config` is noted by itself.
NOT_DIGESTED = ("versions", "framing", "config")
# Left out of a stage folder, for they hold times, hosts, process ids and paths, or are only on the way to units:
STATE = ("stage.json", "inputs.json", "done.json", "answers", "events", "failed", "leases", "logs", "parts", "submissions")
PREVIEW = "preview.png"  # shows what was newest when somebody looked
# Left out of the place of an export: the card holds the command line and versions, the marker the path of the stage.
CARD, MARKER = "README.md", ".synthset.json"
WRITERS = ("h5py", "pyarrow", "imagehash", "opencv-python-headless")  # packages whose versions stage.json does not tell


class CaseFailed(Exception):
    """A command of a case ended with an error; the message is its last words."""


def record(work: Path, jobs: int = 0) -> dict[str, dict[str, dict]]:
    """case -> "<dataset>/<stage>" -> what is noted of it: kind, fingerprint, stage, config, units, files, floats.

    work: a folder without runs. jobs: run every case with cluster=local and so many workers; 0: as the case says.
    """
    places = {"clip": build_clip(work / "tiny_clip")}  # what stands in braces in the words of a case -> path
    found: dict[str, dict[str, dict]] = {}
    floats: set[str] = set()  # fingerprints of the stages in which a float model has a part
    for case in CASES:
        before = set(_stages(work))
        _run(case, places, work, jobs)
        stages = {folder: json.loads((folder / "stage.json").read_bytes()) for folder in _stages(work) if folder not in before}
        floats |= _by_floats(stages.values(), case, floats)
        labels = _labels(stages, case)
        places |= {f"{case.name}:{label}": folder for folder, label in labels.items()}
        found[case.name] = {
            label: noted(folder, stages[folder], work) | {"floats": stages[folder]["fingerprint"] in floats}
            for folder, label in labels.items()
        }
    return found


def noted(folder: Path, stage: Mapping, work: Path) -> dict:
    """What is compared of a stage folder, its stage.json read already."""
    told = json.dumps({k: v for k, v in stage.items() if k not in NOT_DIGESTED}, sort_keys=True, separators=(",", ":"))
    units, beside = {}, {}
    for name, digest in _digests(folder, STATE, (PREVIEW,)):
        (units if name.startswith("units/") else beside)[name.removeprefix("units/")] = digest
    out = folder.parent / "exports" / f"{stage['name']}-{stage['fingerprint'][:8]}"
    files = dict(_digests(out, (), (CARD, MARKER))) if "out" in stage["config"] else {}
    return {
        "kind": stage["kind"],
        "fingerprint": stage["fingerprint"],
        "stage": hashlib.sha256(told.replace(str(work / "runs"), RUNS).encode()).hexdigest(),
        "config": stage["config"],
        "units": units,
        "beside": beside,
        "files": files,
    }


def _digests(root: Path, top: Collection[str], names: Collection[str]) -> Iterator[tuple[str, str]]:
    """(path below `root`, sha256) of every file, less the entries `top` of the folder itself and all files of some names."""
    for path in sorted(root.rglob("*")):
        below = path.relative_to(root)
        if path.is_file() and below.parts[0] not in top and path.name not in names:
            yield below.as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()


def _by_floats(stages: Collection[Mapping], case: Case, known: Collection[str]) -> set[str]:
    """Fingerprints of the stages of a case that a float model makes, and of those that read one, directly or not."""
    found = {s["fingerprint"] for s in stages if s["name"] in case.floats}
    if len(found) < len(case.floats):
        raise CaseFailed(f"{case.name}: not all of its stages {', '.join(case.floats)} were made")
    while True:
        read = {
            s["fingerprint"]
            for s in stages
            if any(u["fingerprint"] in found or u["fingerprint"] in known for ups in s["upstream"].values() for u in ups)
        }
        if read <= found:
            return found
        found |= read


def _labels(stages: Mapping[Path, Mapping], case: Case) -> dict[Path, str]:
    """What each stage folder is called here: "<dataset>/<stage>", and the dataset that it reads where several have one name."""
    found: dict[Path, str] = {}
    plain = {folder: f"{folder.parent.name}/{stage['name']}" for folder, stage in stages.items()}
    for folder in sorted(stages):
        label = plain[folder]
        if list(plain.values()).count(label) > 1:
            reads = (folder / up["path"] for ups in stages[folder]["upstream"].values() for up in ups)
            label += f" of {', '.join(sorted({path.resolve().parent.name for path in reads}))}"
        if label in found.values():
            raise CaseFailed(f"{case.name}: two stages {label}; give the points of the sweep datasets of their own")
        found[folder] = label
    return found


def versions(work: Path) -> dict[str, str]:
    """Of the packages that made the stages of a run: as stage.json tells them, and of those that write the exports."""
    told = json.loads((min(_stages(work)) / "stage.json").read_bytes())["versions"]
    return told | {name: version(name) for name in WRITERS}


def _stages(work: Path) -> list[Path]:
    return [file.parent for file in (work / "runs").glob("*/*/stage.json")]


def _run(case: Case, places: Mapping[str, Path], work: Path, jobs: int) -> None:
    """The command of a case, called from the root of the repository, without a GPU. CaseFailed unless it ends well."""
    words = list(case.words)
    for place, path in places.items():
        words = [word.replace(f"{{{place}}}", str(path)) for word in words]
    cluster = ["cluster=local", f"cluster.n_jobs={jobs or 1}"] if jobs or case.cluster == "local" else [f"cluster={case.cluster}"]
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200", "XDG_STATE_HOME": str(work / "state")}
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])  # for commands that begin with python3
    command = [sys.executable, str(RUN), *words, *cluster, f"runs_dir={work / 'runs'}"]
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    if run.returncode:
        raise CaseFailed(f"{case.name}: exit code {run.returncode} of {' '.join(command)}\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}")
