"""Slurm played by a few lines, and a stage that is submitted to it; tests/slurm does it on a real one."""

import pytest

from launch.slurm import gate, stored
from launch.slurm.order import place, settle
from launch.slurm.stored import Scripts
from launch.slurm.submissions import Order, read, take_turn
from synth.host import slurm
from synth.host.slurm import SlurmError
from synth.host.squeue import Listed, Seen
from tests.stages import probe

ORDER = Order(
    "0001.sbatch",
    "0001.gate.sbatch",
    n_jobs=4,
    max_array=3,
    heal=1,
    max_requeues=5,
    command="cd /x && python launch/run.py",
)


class Queue:
    """Slurm, played: sbatch makes pending jobs, update and scancel are noted."""

    def __init__(self):
        self.jobs: list[Listed] = []
        self.calls: list[tuple[str, ...]] = []
        self.refuse: dict[str, str] = {}  # command -> what it says

    def call(self, *args: str, **kwargs) -> str:
        self.calls.append(args)
        if args[0] in self.refuse:
            raise SlurmError(f"{args[0]}: {self.refuse[args[0]]}")
        if args[0] == "sbatch":
            options = dict(a[2:].split("=", 1) for a in args if a.startswith("--") and "=" in a)
            job = str(100 + len({j.base for j in self.jobs}))
            depends = ",".join(
                f"afterany:{j}(unfulfilled)" for j in options.get("dependency", "").removeprefix("afterany:").split(":") if j
            )
            why = "Dependency" if depends else "Priority"
            self.jobs.append(
                Listed(job, "PENDING", why, depends, "", options["job-name"], 1000.0 + len(self.jobs), kwargs.get("cluster") or "dev")
            )
            return job + "\n"
        return ""

    def seen(self, ids=(), names=(), cluster="", timeout=0.0, mine=False):
        found = [j for j in self.jobs if (j.base in ids or j.name in names) and j.cluster == (cluster or "dev")]
        return [Seen(j.job, j.state, 0, j.submitted, j.name) for j in found]

    def listing(self, users=(), clusters=("",)):
        return [j for j in self.jobs if j.cluster in {c or "dev" for c in clusters}]

    def did(self, name: str) -> list[tuple[str, ...]]:
        return [c[1:] for c in self.calls if c[0] == name]

    def end(self, *jobs: str) -> None:
        self.jobs = [j for j in self.jobs if j.base not in jobs]


@pytest.fixture
def queue(monkeypatch):
    played = Queue()
    monkeypatch.setattr(slurm, "call", played.call)
    monkeypatch.setattr(slurm, "listing", played.listing)
    monkeypatch.setattr(slurm, "seen", played.seen)
    monkeypatch.setattr(slurm, "cluster_name", lambda timeout=0.0: "dev")
    monkeypatch.setattr(gate, "PATIENCE", 0.0)
    return played


@pytest.fixture
def folder(tmp_path):
    return probe(tmp_path, slots=40, unit_size=4)


SCRIPTS = Scripts("#!/bin/bash\necho array\n", "#!/bin/bash\necho gate\n")


def submitted(folder, queue, depends=(), wanted=ORDER):
    stored.write(folder.path, wanted, SCRIPTS)
    return place(folder, take_turn(folder.path, settle), wanted, SCRIPTS, 4, depends)


def judge(folder, number):
    """The gate of a submission, told what its launcher told it."""
    return gate.judge(folder, number, SCRIPTS.told(next(s for s in read(folder.path) if s.number == number)))


def raising(error):
    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.fixture
def ended(folder, queue, monkeypatch):
    """A submission whose arrays are over, judged by its gate, with a job that waits for it."""
    turn = submitted(folder, queue)
    monkeypatch.setenv("SLURM_JOB_ID", turn.gate)
    queue.end(*turn.job_ids)
    queue.jobs += [
        Listed(turn.gate, "RUNNING", "None", "", "", turn.named("gate"), cluster="dev"),
        Listed("300_[0-3]", "PENDING", "Dependency", f"afterany:{turn.gate}(unfulfilled)", "x/0", "next", cluster="dev"),
        Listed("301", "PENDING", "Dependency", "afterany:300_*(unfulfilled)", "x/gate", "next", cluster="dev"),
    ]
    return turn
