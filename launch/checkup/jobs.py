"""The trial on a site's nodes: a job a stage, by the very script that a run submits, and what it finds on its node.

Ctrl-C and a queue that is longer than one's patience cancel the job; nothing stays behind.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from launch.checkup.trial import NOT_TOLD, Ended, Make, local
from launch.config.clusters import SlurmConfig
from launch.config.times import limit
from launch.plan.devices import uses_gpu
from launch.plan.planned import PlannedStage
from launch.show.saying import say
from launch.slurm import frozen, sbatch, submissions
from launch.slurm.endings import reason_of_jobs
from launch.slurm.policy import short, stuck, time_mends
from launch.slurm.precheck import refusal
from launch.slurm.resources import Resources
from launch.slurm.sbatch import Queued
from launch.slurm.scripts import scripts_of
from launch.slurm.site import Site, site_of, with_containers
from launch.slurm.stored import handed
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK
from synth.host import slurm, squeue
from synth.host.children import tail
from synth.host.slurm import SlurmError
from synth.run.trust import secrets_of
from synth.store.events import read_events
from synth.store.folder import StageFolder

MINUTES = 30  # limit of a trial's job: a large model is loaded from a slow disk, and draws two batches
LOOK = (1.0, 10.0)  # seconds between two looks at the queue: the first, and the longest
UNSEEN = 10.0  # seconds after which a job that squeue does not show has been there
LATE = 30.0  # seconds that a network file system may take to show what an ended job wrote
NODE = "logs/node.txt"  # in the folder of a stage
# What a worker cannot tell. `stage` is set by the script; a shell on a node may lack any of these programs.
PROBE = r"""
{
  echo "host $(hostname)"
  probe=$stage/logs/probe-$SLURM_JOB_ID
  if touch "$probe" && ln "$probe" "$probe.twin"; then echo "links yes"; else echo "links no"; fi
  rm -f "$probe" "$probe.twin"
  lacks=
  for name in sbatch squeue scontrol; do command -v "$name" >/dev/null || lacks="$lacks $name"; done
  echo "lacks$lacks"
  echo "driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)"
} >"$stage/logs/node.txt" 2>/dev/null
""".strip()


def on_nodes(stages: Sequence[PlannedStage], cluster: SlurmConfig, console: Console, wait_s: float) -> Make:
    """Makes a cut stage by a job; what computes nothing, and takes a second, here. wait_s: how long a job may wait in the queue."""
    site = with_containers(stages, site_of(cluster), console)
    here = local(site.cluster, console)

    def make(stage: PlannedStage, name: str) -> Ended:
        if not uses_gpu(stage.spec.kind, stage.spec.config):
            return here(stage, name)
        folder = StageFolder.create(stage.dataset_root, stage.spec)
        resources = small(site.resources(stage))
        try:
            job = _submitted(folder, stage, resources, site)
        except SlurmError as e:
            return _refused(e, resources, site, name)
        say(console, f"trial: {name}: job {job.job}")
        try:
            return _ended(folder, job, wait_s, lambda text: say(console, f"trial: {name}: {text}"))
        except BaseException:
            slurm.command("scancel", job.job, cluster=job.cluster)
            raise

    return make


def small(resources: Resources) -> Resources:
    """One worker, for minutes, that does not come back, and that looks at its node first."""
    most = limit(resources.time) if resources.time else None
    time = resources.time if most is not None and most <= MINUTES * 60 else str(MINUTES)
    setup = (*resources.setup, PROBE)
    once = {"max_parallel": None, "max_requeues": 0, "requeue": False}
    return replace(resources, n_jobs=1, workers=1, time=time, time_min=None, setup=setup, **once)


def _submitted(folder: StageFolder, stage: PlannedStage, resources: Resources, site: Site) -> Queued:
    text = scripts_of(stage, resources, site.gate, 1, site.limits, site.command).array
    if resources.freeze:
        frozen.write(folder.path / submissions.FOLDER, frozen.archive())
    name = f"doctor-{stage.spec.name}-{folder.path.parents[1].name}-{folder.path.parent.name}"
    with handed(text) as path:
        return sbatch.submit([str(path)], name, site.limits.clusters, secrets_of(stage.spec))


def _refused(error: SlurmError, resources: Resources, site: Site, name: str) -> Ended:
    words = str(error)
    if error.passing or error.unsure or time_mends(words):
        return Ended(NOT_TOLD, f"not submitted: {short(words)}")
    return Ended(EXIT_BAD_INPUT, refusal(words, resources, site.limits, name))


def _ended(folder: StageFolder, job: Queued, wait_s: float, tell: Callable[[str], None]) -> Ended:
    """Wait for a job; how it ended. One that waits too long is cancelled."""
    begun, pause, said = time.monotonic(), LOOK[0], ""
    while True:
        tasks = slurm.seen([job.job], cluster=job.cluster)
        state = tasks[0].state if tasks else "" if tasks is None else "COMPLETED"
        waited = time.monotonic() - begun
        if tasks == [] and waited < UNSEEN:
            state = ""  # not shown yet
        if state in squeue.OVER:
            return _outcome(folder, job, state)
        if state != said and state:
            said = state
            tell(state.lower())
        if waited > wait_s and state in squeue.WAITING:
            why = slurm.ask("squeue", "-h", "-j", job.job, "-o", "%r", cluster=job.cluster).partition("\n")[0].strip()
            slurm.command("scancel", job.job, cluster=job.cluster)
            text = f"job {job.job} waited {waited / 60:.0f} min in the queue ({why or 'no reason told'}), and was cancelled"
            return Ended(NOT_TOLD, text + stuck([why]), {"fix": "--wait MINUTES waits longer; another partition or QOS may be free"})
        if waited > wait_s + (MINUTES + 5) * 60:
            slurm.command("scancel", job.job, cluster=job.cluster)
            return Ended(EXIT_AGAIN, f"job {job.job} did not end in its time, and was cancelled (last state {state or 'not told'})")
        time.sleep(pause)
        pause = min(2 * pause, LOOK[1])


def _outcome(folder: StageFolder, job: Queued, state: str) -> Ended:
    """By what is on disk; a job that left nothing there by its log."""
    end = time.monotonic() + LATE
    while not folder.is_done() and state == "COMPLETED" and time.monotonic() < end:
        time.sleep(0.5)
    node = _node(folder)
    if folder.is_done():
        return Ended(EXIT_OK, node=node)
    events = list(read_events(folder.path))
    stops = [e for e in events if e["event"] == "stop"]
    if stops:
        return Ended(int(stops[-1].get("code") or EXIT_AGAIN), str(stops[-1].get("why", "")), node)
    killed = reason_of_jobs(folder.path, folder.spec.kind, [job.job], cluster=job.cluster)
    if killed.mem or killed.final:  # for memory: more helps, and time does not
        return Ended(EXIT_BAD_INPUT, killed.why, node)
    logs = sorted((folder.path / "logs").glob("*.log"))
    words = "; ".join(tail(logs[-1], 3).splitlines()[1:]) if logs else "it left no log: nodes do not see runs_dir, or may not write there"
    when = "while its worker worked" if events else "before a worker began"
    return Ended(EXIT_AGAIN, f"job {job.job} ended ({state}) {when}: {words}", node)


def _node(folder: StageFolder) -> dict[str, str]:
    """What PROBE wrote down; {} where it could not."""
    path: Path = folder.path / NODE
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(" ") for line in lines)}
