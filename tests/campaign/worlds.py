"""What the phases run, and what is compared of it at the end."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from synth.captions.llama.reshard import reshard
from synth.store.events import read_events
from synth.store.folder import StageFolder
from synth.store.out_folder import MARKER
from tests.campaign.report import Report

REPO = Path(__file__).resolve().parents[2]
EMBEDDED = REPO / "synth" / "embedded" / "models" / "tiny_llama"
MARK = "SYNTHSET_CAMPAIGN"  # in the environment of all that a run starts, so that what it leaves behind is found
GONE = 20.0  # seconds in which all that a run started must be gone behind it
CACHES = ("torchinductor_",)  # torch's own below TMPDIR, one a user
PLACES = (MARKER, "README.md")  # files of exports that name the place where they lie


@dataclass(frozen=True)
class Work:
    """Something to run: a name, and the overrides of launch/run.py. Its inputs lie in `given`."""

    name: str
    overrides: tuple[str, ...]


def works(given: Path) -> dict[str, Work]:
    """All that can be run, by name: some seconds to half a minute each where nothing disturbs it."""
    few = ("dataset.classes=0..3", "cluster.n_jobs=2")
    python = sys.executable
    server = f"captioner.command=['{python}',-m,tests.captions.remote.fake,--port,'{{port}}',--slow,'0.1']"
    drawn = (*few, "captions.total=24", "captions.unit_size=8", "captions.window=8", "images.unit_size=6", "images.batch_size=3")
    exports = "export=[image_folder,webdataset,hdf5,parquet,contact_sheet]"
    rows = {
        # captions by two ranks under torchrun, a diffusion model, a filter, five exports
        "main": (*drawn, "images.steps=2", f"captioner.ckpt_dir={given}/llama", "captioner.max_gen_len=24", exports, "filter=[near_duplicates]"),
        # captions by a server and pictures by a command that the workers start
        "outside": (
            *(*drawn, "captioner=served", server, "captioner.model=m", "captioner.api=completions", "captioner.max_batch_size=2", "captions.oversample=2"),
            *("model=external", "model.id=toy", f"model.command=['{python}','{given}/draw.py']", "images.height=16", "images.width=16"),
            "export=[image_folder]",
        ),
        "story": ("recipe=golden_story", "images.steps=2", "cluster.n_jobs=2"),
        "tracking": ("recipe=golden_tracking", "images.steps=2", "cluster.n_jobs=2"),
    }  # fmt: skip
    return {name: Work(name, overrides) for name, overrides in rows.items()}


def given(root: Path) -> Path:
    """The folder of inputs below `root`, made once."""
    folder = root / "given"
    if not folder.exists():
        new = root / "given.new"
        new.mkdir(parents=True)
        reshard(EMBEDDED, new / "llama", 2)
        example = re.search(r"```python\n(.*?)```", (REPO / "docs" / "external.md").read_text(), re.DOTALL)[1]
        slow = "    time.sleep(0.1)  # or nobody would meet it at work\n"
        (new / "draw.py").write_text(
            "import time\n" + example.replace("    request = json.loads(line)\n", f"    request = json.loads(line)\n{slow}")
        )
        new.rename(folder)
    return folder


class World:
    """One run in a folder of its own: runs_dir, TMPDIR, and the command that is typed again and again."""

    def __init__(self, folder: Path, work: Work, env: Mapping[str, str] | None = None):
        self.folder, self.work = folder, work
        self.runs, self.temp, self.log = folder / "runs", folder / "t", folder / "log"
        self.temp.mkdir(parents=True)
        self.env = os.environ | {
            "PYTHONPATH": str(REPO), "TMPDIR": str(self.temp), "CUDA_VISIBLE_DEVICES": "", MARK: str(folder),
            "SYNTHSET_CONF": str(REPO / "tests" / "golden" / "conf"), "SYNTHSET_BEAT_S": "0.5", "SYNTHSET_DEAD_AFTER_S": "5",
        } | (env or {})  # fmt: skip
        self._started = 0

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(REPO / "launch" / "run.py"), f"runs_dir={self.runs}", *self.work.overrides]

    def start(self, env: Mapping[str, str] | None = None) -> subprocess.Popen:
        """The command, as somebody types it."""
        self._started = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as out:
            return subprocess.Popen(
                self.command, cwd=REPO, env=self.env | (env or {}), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )

    def said(self) -> str:
        """What the last command printed."""
        with self.log.open("rb") as f:
            f.seek(self._started)
            return f.read().decode(errors="replace")

    def stages(self) -> list[StageFolder]:
        return [StageFolder.open(path.parent) for path in sorted(self.runs.glob("*/*/stage.json"))]

    def digests(self) -> dict[str, str]:
        """File below runs_dir -> sha256: all units, and all files of exports but those that name their place."""
        units = (p for p in self.runs.glob("*/*/units/*/*") if p.is_file())
        exports = (p for p in self.runs.glob("*/exports/*/**/*") if p.is_file() and p.name not in PLACES)
        return {p.relative_to(self.runs).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in (*units, *exports)}

    def left_behind(self) -> list[str]:
        """Processes of this run that are still there after a while, by their command lines."""
        end = time.monotonic() + GONE
        while (alive := marked(self.folder)) and time.monotonic() < end:
            time.sleep(0.05)
        return list(alive.values())

    def judge(self, want: Mapping[str, str], report: Report) -> None:
        """Of a run whose command said 0: add what is not as it should be."""
        name, found = self.work.name, self.digests()
        report.count("compared", f"{name}: files equal", sum(found.get(path) == digest for path, digest in want.items()))
        if differ := sorted(path for path in want.keys() | found.keys() if want.get(path) != found.get(path)):
            report.faults.append(f"{self.folder}: {len(differ)} files are missing, or not as in an undisturbed run: {differ[:5]}")
        if reports := sorted(str(p) for p in self.runs.glob("*/*/failed/**/*") if p.is_file()):
            report.faults.append(f"{self.folder}: units are blamed: {reports[:5]}")
        if left := self.left_behind():
            report.faults.append(f"{self.folder}: still running: {left[:5]}")
        if left := sorted(p.name for p in self.temp.iterdir() if not p.name.startswith(CACHES)):
            report.faults.append(f"{self.folder}: left in TMPDIR: {left[:5]}")
        command = [sys.executable, str(REPO / "launch" / "verify.py"), str(self.runs), "--deep"]
        verified = subprocess.run(command, cwd=REPO, env=self.env, capture_output=True, text=True)
        if verified.returncode:
            report.faults.append(f"{self.folder}: verify --deep: {verified.stdout[-1000:]}{verified.stderr[-1000:]}")
        for code, n in self.worker_codes().items():
            report.count("exit codes of workers", code, n)
            if code not in (0, 75):
                report.faults.append(f"{self.folder}: {n} workers ended with {code}")

    def worker_codes(self) -> dict[int, int]:
        """How often workers that could say it ended with which exit code."""
        codes: dict[int, int] = {}
        for stage in self.stages():
            for event in read_events(stage.path):
                if event["event"] == "stop":
                    codes[event["code"]] = codes.get(event["code"], 0) + 1
        return codes

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def reference(root: Path, work: Work) -> dict[str, str]:
    """The digests of an undisturbed run, made once below `root`; AssertionError if that one does not even succeed."""
    file = root / f"reference-{work.name}.json"
    if not file.exists():
        world, report = World(root / f"reference-{work.name}", work), Report()
        code = world.start().wait()
        assert code == 0, f"undisturbed, {work.name} ends with {code}: {world.said()[-3000:]}"
        world.judge(world.digests(), report)
        assert not report.faults, report.faults
        file.write_text(json.dumps(world.digests()))
        world.remove()
    return json.loads(file.read_text())


def marked(folder: Path) -> dict[int, str]:
    """pid -> command line of the living processes that a run in `folder` started, wherever they hang now."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            mark = f"{MARK}={folder}".encode()
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return found
