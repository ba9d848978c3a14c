"""Slurm's commands: the only place that runs them. Patient with a controller that restarts; never with a refusal."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Variables of an enclosing job (or of a distributed run in it) change what sbatch and srun do: a leaked SLURM_CPU_BIND has
# tripled run times.
# submitit.helpers.clean_env also drops SLURM_CONF, without which sites with several clusters cannot submit at all.
LEAKS = (
    "SLURM_",
    "SLURMD_",
    "SRUN_",
    "SBATCH_",
    "SALLOC_",
    "SQUEUE_",
    "SACCT_",
    "SCANCEL_",
    "SINFO_",
    "SUBMITIT_",
    "PMI_",
    "PMIX_",
)
LEAK_NAMES = frozenset(
    [
        "MASTER_ADDR",
        "MASTER_PORT",
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "JOB_IDX",
        "N_JOBS",
        "JOB_OFFSET",
        "CUDA_VISIBLE_DEVICES",
        "GPU_DEVICE_ORDINAL",
        "ROCR_VISIBLE_DEVICES",
        "ZE_AFFINITY_MASK",
    ]
)
KEPT = frozenset({"SLURM_CONF"})
TIMEOUT = 60.0  # seconds a call
PATIENCE = 60.0  # seconds that a controller may be away
TRANSIENT = re.compile(
    r"Unable to contact|Socket timed out|Connection refused|Connection reset|Communication connection failure|Zero Bytes|"
    r"temporarily|try again|Resource temporarily unavailable|slurm_receive_msg",
    re.IGNORECASE,
)


class SlurmError(Exception):
    """A Slurm command that is not there, not allowed, or refused."""


@dataclass(frozen=True)
class Listed:
    """A job of squeue: "11_3" or "12"."""

    job: str
    state: str
    reason: str
    depends: str  # squeue's %E: "afterany:11_*(unfulfilled)"
    comment: str
    name: str

    @property
    def base(self) -> str:
        return self.job.partition("_")[0]

    @property
    def held(self) -> bool:
        return self.state == "PENDING" and "held" in self.reason.lower()


def clean(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for a submission: all but what belongs to an enclosing allocation.

    >>> clean({"SLURM_CPU_BIND": "x", "SLURM_CONF": "/etc/slurm.conf", "HOME": "/root"})
    {'SLURM_CONF': '/etc/slurm.conf', 'HOME': '/root'}
    """
    return {k: v for k, v in env.items() if k in KEPT or not (k.startswith(LEAKS) or k in LEAK_NAMES)}


def call(*args: str, patience: float = PATIENCE, timeout: float = TIMEOUT) -> str:
    """stdout of a Slurm command. Repeated while the controller is away; another failure is a SlurmError with Slurm's words."""
    if shutil.which(args[0]) is None:
        raise SlurmError(f"{args[0]}: not found on this machine")
    end, pause = time.monotonic() + patience, 0.5
    while True:
        try:
            done = subprocess.run(args, env=clean(), capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
            code, out, err = done.returncode, done.stdout, done.stderr.strip()
        except subprocess.TimeoutExpired:
            code, out, err = 1, "", f"Socket timed out: no answer in {timeout:g} s"
        except OSError as e:
            code, out, err = 1, "", str(e)
        if code == 0:
            return out
        if not TRANSIENT.search(err) or time.monotonic() > end:
            raise SlurmError(f"{args[0]}: {err or f'exit code {code}'}")
        time.sleep(pause)
        pause = min(2 * pause, 5.0)


def submit(args: Sequence[str], comment: str) -> str:
    """sbatch; the job id.

    An sbatch whose answer got lost may have queued the job: it is looked for, by its comment, before another try.
    """
    end, lost = time.monotonic() + PATIENCE, False
    while True:
        twin = next((j.base for j in listing() if j.comment == comment), None) if lost else None
        if twin:
            return twin
        try:
            return call("sbatch", "--parsable", f"--comment={comment}", *args, patience=0.0).strip().splitlines()[-1].partition(";")[0]
        except SlurmError as e:
            if not TRANSIENT.search(str(e)) or time.monotonic() > end:
                raise
            lost = True
        time.sleep(1.0)


def listing(users: Sequence[str] = ()) -> list[Listed]:
    """Jobs in the queue: ours, and those of other users who submitted the same stages. One line an array task."""
    who = ["-u", ",".join(users)] if users else ["--me"]
    try:
        out = call("squeue", "-h", "-a", "-r", *who, "-o", "%i|%T|%r|%E|%k|%j")
    except SlurmError as e:
        if not users or "user" not in str(e).lower():
            raise
        return listing()
    return parse_listing(out)


def parse_listing(text: str) -> list[Listed]:
    """squeue's lines.

    >>> parse_listing("11_3|PENDING|Dependency|afterany:9(unfulfilled)|tok|images-1\\n")[0].base
    '11'
    """
    return [Listed(*line.split("|", 5)) for line in text.splitlines() if line.count("|") >= 5]


def depends_on(listed: Listed) -> dict[str, str]:
    """job id -> kind of dependency, of a pending job.

    >>> depends_on(Listed("3", "PENDING", "Dependency", "afterany:11_*(unfulfilled),afterany:12(unfulfilled)", "", ""))
    {'11': 'afterany', '12': 'afterany'}
    """
    return {job: kind for kind, job in re.findall(r"(after\w*):(\d+)", listed.depends)}
