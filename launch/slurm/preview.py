"""dry_run=true with cluster=slurm: the exact scripts that sbatch would get, judged by sbatch --test-only. Queues nothing."""

from collections.abc import Sequence

from rich.console import Console

from launch.config.clusters import SlurmConfig
from launch.plan.planned import PlannedStage
from launch.plan.state import state_of
from launch.show.saying import say
from launch.slurm import order
from launch.slurm.limits import split
from launch.slurm.scripts import max_array, order_of, scripts_of
from launch.slurm.site import precheck, site_of, tell_payer, with_containers
from launch.slurm.submit import to_submit
from synth.host import slurm
from synth.host.slurm import SlurmError


def show(stages: Sequence[PlannedStage], cluster: SlurmConfig, console: Console) -> None:
    """Every stage that is not done: how sbatch is called, and both scripts."""
    site = site_of(cluster)
    todo = fresh(stages, site.limits.clusters)
    site = with_containers(todo, site, console)
    precheck(todo, site, console)
    tell_payer(stages, site, console)
    clusters = site.limits.clusters or next(iter(slurm.federation() or ()), "")
    there = f" --clusters={clusters}" if clusters else ""
    for stage in stages:
        state = state_of(stage)
        if state.done:
            continue
        if stage not in todo:
            _say(console, f"\n# ---- {stage.folder.name}: pending or running, left alone")
            continue
        resources = site.resources(stage)
        wanted = order_of(resources, site.limits, 1, site.command)
        tasks = wanted.tasks(max(1, state.n_units - state.units))
        texts = scripts_of(stage, resources, site.gate, tasks, site.limits, site.command)
        arrays = split(tasks, max_array(resources, site.limits))
        calls = [
            f"sbatch{there} --array=0-{size - 1} {wanted.script} {offset * wanted.workers} {tasks * wanted.workers}"
            for offset, size in arrays
        ]
        _say(
            console,
            f"\n# ---- {stage.folder.name}: {tasks} jobs x {wanted.workers} workers of {resources.cpus_worker} cores, {len(arrays)} arrays",
            *calls,
            texts.array,
        )
        _say(
            console,
            f"# ---- {stage.folder.name}: its gate",
            f"sbatch{there} --dependency=afterany:ARRAYS {wanted.gate_script} NUMBER DIGEST DIGEST",
            texts.gate,
        )


def fresh(stages: Sequence[PlannedStage], clusters: str) -> list[PlannedStage]:
    """What would be submitted now; where no queue can be asked, all that is not done."""
    try:
        queue = order.queue_of([s.folder for s in stages], clusters)
    except SlurmError:
        queue = []
    return to_submit(stages, queue)


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        say(console, line)
