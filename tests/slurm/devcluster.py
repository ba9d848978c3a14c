"""A real Slurm for the tests: brought up once a session, taken down at its end. See slurm/devcluster/README.md.

Where its packages cannot be had the tests skip with the reason, except in CI (CI=true), where nothing of it may skip.
"""

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

REPO = Path(__file__).resolve().parents[2]
SCRIPT = REPO / "slurm" / "devcluster" / "devcluster.sh"
BUSY = 4  # times as long as on a free machine all that is waited for may take
PORTS = 40  # a cluster's share of the port range
TERMINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}

T = TypeVar("T")


class NoCluster(Exception):
    """Slurm cannot be had on this machine; the message says why."""


@dataclass
class Cluster:
    """A running devcluster, tied to this process. `knobs` are those of devcluster.sh without their prefix: {"NODES": 2, "DBD": 0}."""

    path: Path
    port: int
    knobs: Mapping[str, object] = field(default_factory=dict)

    # -- commands ----------------------------------------------------------------------------------------------------

    @property
    def env(self) -> dict[str, str]:
        """An environment in which sbatch, squeue and our own commands talk to this cluster."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "SYNTHSET_", "CUDA_VISIBLE"))}
        sbin = "/usr/local/sbin:/usr/sbin:/sbin"
        mine = {"SLURM_CONF": str(self.path / "etc" / "slurm.conf"), "SYNTHSET_PYTHON": sys.executable, "PYTHONPATH": str(REPO)}
        return clean | mine | {"PATH": f"{clean.get('PATH', '')}:{sbin}"}

    def control(self, verb: str, *args: str, timeout: float = 300 * BUSY) -> str:
        """Run a verb of devcluster.sh, such as control("crash", "node1")."""
        knobs = {f"SLURM_DEV_{k}": str(v) for k, v in ({"PARENT": os.getpid(), "BUSY": BUSY} | dict(self.knobs)).items()}
        env = self.env | knobs | {"SLURM_DEV_DIR": str(self.path), "SLURM_DEV_PORT": str(self.port)}
        done = subprocess.run([str(SCRIPT), verb, *args], env=env, capture_output=True, text=True, timeout=timeout)
        if done.returncode:
            msg = f"devcluster.sh {verb} {' '.join(args)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            raise NoCluster(msg) if verb in ("install", "up") else RuntimeError(msg)
        return done.stdout

    def run(
        self, *command: str | Path, check: bool = True, timeout: float = 60 * BUSY, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess:
        """Run a command against this cluster; a failure raises with its output."""
        done = subprocess.run([str(c) for c in command], env=self.env | env, capture_output=True, text=True, timeout=timeout, cwd=cwd)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done

    def sbatch(self, *args: str | Path, cwd: Path | None = None, **env: str) -> str:
        """Submit; the job id."""
        return self.run("sbatch", "--parsable", *args, cwd=cwd, **env).stdout.strip().partition(";")[0]

    def states(self, job: str) -> dict[str, str]:
        """ "11_3" (or "11") -> state, for every task of a job."""
        done = self.run("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%i %T", check=False)
        return dict(line.split() for line in done.stdout.splitlines())

    def exit_codes(self, job: str) -> dict[str, int]:
        """ "11_3" -> exit code of the batch script, from the controller (no accounting needed)."""
        codes = {}
        for record in self.run("scontrol", "-o", "show", "job", job).stdout.splitlines():
            facts = dict(pair.split("=", 1) for pair in record.split() if "=" in pair)
            name = f"{facts['ArrayJobId']}_{facts['ArrayTaskId']}" if "ArrayTaskId" in facts else facts["JobId"]
            codes[name] = int(facts["ExitCode"].partition(":")[0])
        return codes

    # -- waiting, always with a deadline -----------------------------------------------------------------------------

    def wait_for(self, what: str, condition: Callable[[], T], seconds: float = 30) -> T:
        """Poll until the condition is true; its value. seconds: of a free machine."""
        end = time.monotonic() + BUSY * seconds
        while True:
            if value := condition():
                return value
            if time.monotonic() > end:
                queue = self.run("squeue", "-a", "-t", "all", check=False).stdout
                raise TimeoutError(f"timed out after {BUSY * seconds} s waiting for {what}\n{queue[-3000:]}")
            time.sleep(0.1)

    def wait_state(self, job: str, state: str, seconds: float = 30) -> None:
        """Wait until every task of a job is in a state."""
        self.wait_for(f"job {job} to be {state}", lambda: (s := set(self.states(job).values())) and s == {state}, seconds)

    def wait_done(self, job: str, seconds: float = 60) -> dict[str, str]:
        """Wait until every task of a job has ended; their states."""
        return self.wait_for(f"job {job} to end", lambda: (s := self.states(job)) and set(s.values()) <= TERMINAL and s, seconds)

    def processes(self) -> list[int]:
        """Every living process that belongs to this cluster: daemons, step daemons, jobs."""
        found = []
        for proc in Path("/proc").iterdir():
            try:
                if not proc.name.isdigit() or (proc / "stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                    continue
                cmdline, environ = (proc / "cmdline").read_bytes(), (proc / "environ").read_bytes()
            except OSError:
                continue
            job = f"SLURM_CONF={self.path}/".encode() in environ and b"SLURM_JOB_ID=" in environ
            if str(self.path).encode() in cmdline or job:
                found.append(int(proc.name))
        return found


def has_cgroups() -> bool:
    """Whether SLURM_DEV_CGROUPS=1 can be had here."""
    return os.getuid() == 0 and all(os.access(f"/sys/fs/cgroup/{name}/release_agent", os.W_OK) for name in ("memory", "freezer"))


def _free_port() -> tuple[int, object]:
    """A port range that no other cluster of this machine uses, and the lock that keeps it so while it is open."""
    folder = _locks()
    for base in range(17000, 30000, PORTS):
        lock = open(folder / str(base), "w")  # noqa: SIM115 (held while the cluster lives)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for port in range(base, base + PORTS):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            continue
        return base, lock
    raise NoCluster("no free range of ports between 17000 and 30000")


def sweep() -> None:
    """Take down clusters of test runs that were killed, should their keepers have been killed, too."""
    with sweeping():
        for record in Path(tempfile.gettempdir()).glob("slurm-*/run/parent"):
            with contextlib.suppress(OSError):  # it goes this moment
                pid, _, start_time = record.read_text().strip().partition(" ")  # empty: it is being written
                if pid and record.stat().st_uid == os.getuid() and not _lives(pid, start_time):
                    Cluster(record.parents[1], 0).control("clean")


@contextlib.contextmanager
def sweeping() -> Iterator[None]:
    """One test run at a time."""
    with open(_locks() / "sweep", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _locks() -> Path:
    folder = Path(tempfile.gettempdir(), f"synthset-devcluster-ports-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    return folder


def _lives(pid: str, start_time: str) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z" and fields[19] == start_time


def start(**knobs: object) -> tuple[Cluster, Callable[[], None]]:
    """A new cluster, and what takes it down; it goes with this process, however that ends. Raises NoCluster."""
    sweep()
    port, lock = _free_port()
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="slurm-")), port, knobs)  # short: unix sockets lie in it

    def stop() -> None:
        cluster.control("clean")
        lock.close()

    try:
        cluster.control("up")
    except NoCluster:
        cluster.control("down")
        shutil.rmtree(cluster.path, ignore_errors=True)
        lock.close()
        raise
    return cluster, stop


@contextlib.contextmanager
def running(**knobs: object) -> Iterator[Cluster]:
    """A cluster with these knobs while the block runs; without Slurm the test is skipped with the reason, in CI it fails."""
    try:
        cluster, stop = start(**knobs)
    except NoCluster as e:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(f"no Slurm in CI: {e}")
        pytest.skip(f"no Slurm on this machine: {e}")
    try:
        yield cluster
    finally:
        stop()


def give(**knobs: object) -> Iterator[Cluster]:
    """The body of a fixture. In a test itself use `running`, which takes the cluster down when the test fails, too."""
    with running(**knobs) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three nodes with 4 fake GPUs each, no accounting: up in a second. Tests leave its nodes up and its queue empty."""
    yield from give(NODES=3, DBD=0)
