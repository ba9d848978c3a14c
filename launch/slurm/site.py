"""The site as a command finds it: limits, containers and the gate's resources, and what sbatch says before anything is submitted."""

import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from launch.config.clusters import GATE, SlurmConfig
from launch.config.inherited import assignments, notes, payer
from launch.config.program import lasting_command
from launch.plan.container import Container
from launch.plan.planned import PlannedStage
from launch.plan.state import state_of
from launch.show.saying import say
from launch.slurm.container import inside, looked_at
from launch.slurm.exported import check_export
from launch.slurm.limits import Limits, read
from launch.slurm.payer import default_account, paid_by
from launch.slurm.precheck import check_srun, check_with_slurm
from launch.slurm.resources import Resources, resources_of
from launch.slurm.scripts import scripts_of
from synth.errors import InputError
from synth.host.scratch import Scratch


@dataclass(frozen=True)
class Site:
    """All that does not change from stage to stage."""

    cluster: SlurmConfig
    limits: Limits
    gate: Resources
    command: str
    containers: Mapping[Container, Container] = field(default_factory=dict)  # as asked for -> with what is known of the image
    notice: Mapping = field(default_factory=dict)  # launch.slurm.last.Notice; {}: nobody is told

    @property
    def room(self) -> int | None:
        """Jobs that one may have in the queue; None: no limit is known."""
        return min((b for b in (self.limits.max_submit, self.limits.max_jobs) if b is not None), default=None)

    def resources(self, stage: PlannedStage) -> Resources:
        return inside(self.asked(stage), self.containers, stage)

    def asked(self, stage: PlannedStage) -> Resources:
        """Of a stage, before its worker is put into a container."""
        return resources_of(self.cluster, stage.spec.kind, stage.spec.config, stage.spec.settings.get("memory", {}).get("host"))


def site_of(cluster: SlurmConfig) -> Site:
    """Reads the site's limits; wrong values of the gate's keys are InputErrors."""
    gate = resources_of(cluster, GATE, {})
    limits = read(cluster.max_array_size, cluster.max_submit, cluster.account, cluster.qos, cluster.clusters or "")
    command = f"cd {shlex.quote(os.getcwd())} && {assignments(cluster)}{lasting_command()}"
    return Site(cluster, limits, gate, command)


def with_containers(stages: Sequence[PlannedStage], site: Site, console: Console) -> Site:
    """The site, with what is known of the images that stages which are not done run in. One that cannot be used is an InputError."""

    def tell(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    return replace(site, containers=looked_at([s for s in stages if not state_of(s).done], site.asked, tell))


def tell_payer(stages: Sequence[PlannedStage], site: Site, console: Console) -> None:
    """Before anything is queued: what was taken from the environment, and who pays."""
    for note in notes(site.cluster):
        say(console, note)
    todo = [s for s in stages if not state_of(s).done]
    accounts = {s.spec.kind: site.asked(s).account for s in todo} | {"gate": site.gate.account}
    default = "" if all(accounts.values()) else default_account(site.limits.clusters.partition(",")[0])
    say(console, paid_by(accounts, payer(site.cluster.account), default))


def precheck(stages: Sequence[PlannedStage], site: Site, console: Console) -> None:
    """Have sbatch test every distinct script of stages that are to be submitted; a wrong one is an InputError before anything is written
    or queued."""
    for s in stages:
        check_export(s.spec, site.asked(s))
    if not stages or not site.cluster.check:
        return
    if site.room is not None and site.room < 2:
        raise InputError(f"{site.room} jobs in the queue are all that you may have here: a stage needs two, one of workers and its gate")

    def tell(text: str) -> None:
        say(console, text)

    for s in {site.resources(s).srun: s for s in reversed(stages)}.values():
        check_srun(site.resources(s), s.name)
    with scratch() as script:
        for text, name, asked in distinct_scripts(stages, site):
            script.write_text(text, encoding="utf-8")
            check_with_slurm(script, asked, site.limits, name, tell, array=name != GATE)


def distinct_scripts(stages: Sequence[PlannedStage], site: Site) -> list[tuple[str, str, Resources]]:
    """(script, stage, resources) of all that ask sbatch for different things, the gate's last; [] without stages."""
    distinct: dict[str, tuple[PlannedStage, Resources]] = {}
    for s in stages:
        r = site.resources(s)
        distinct.setdefault(str(sorted(r.flags().items())), (s, r))
    checks = [(scripts_of(s, r, site.gate, 1, site.limits, site.command).array, s.name, r) for s, r in distinct.values()]
    for stage, resources in [*distinct.values()][:1]:
        checks.append((scripts_of(stage, resources, site.gate, 1, site.limits, site.command).gate, GATE, site.gate))
    return checks


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """The path of a script for sbatch --test-only, which goes with the context."""
    folder = Scratch()
    try:
        yield folder.path / "test-only.sbatch"
    finally:
        folder.remove()
