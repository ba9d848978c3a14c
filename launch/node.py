"""Work as one machine of several, without a scheduler.

Start the same command on each, at any time, in any number:

    NODE_IDX=0 TOTAL_NODES=2 N_GPUS=8 synthset node recipe=class_images dataset=aircraft    # on the first machine
    NODE_IDX=1 TOTAL_NODES=2 N_GPUS=8 synthset node recipe=class_images dataset=aircraft    # on the second
    N_GPUS=auto synthset node runs/aircraft/captions-0123456789ab runs/aircraft/images-0123456789ab
    synthset node gpus=idle recipe=class_images             # a shared machine: takes GPUs as they become idle

What to do is either settings as for synthset run, or the folders of planned stages. Machines share the folders (runs_dir) and
nothing else: whatever one leaves undone, another takes over. Stages run in order; a machine goes on to the next one when the last is
whole. A dead worker is started again a few times; ctrl-C lets every worker end its running batch and keep it, a second one kills.

Environment (or settings of the same name):
  NODE_IDX=0           which machine this is; only decides which units it tries first
  TOTAL_NODES=1        how many machines there are; a wrong number is slower, never wrong
  N_GPUS=auto          workers here, one a GPU with its own CUDA_VISIBLE_DEVICES; auto: all GPUs that CUDA shows, without GPUs all cores.
                       On a machine without GPUs a number counts plain workers. A captioner of several shards takes as many GPUs a worker
Settings:
  gpus=all             all of them at once | idle: each GPU when it has been idle for 3 readings, 5 s apart (pip install nvidia-ml-py)
  idle_utilisation=10  percent, idle_memory=1000 MiB: a GPU at or below both is idle

Exit codes: 0 every stage is done; 75 stopped, run it again; 65 bad input; 70 a unit failed three times.
"""

if __name__ == "__main__":  # python launch/node.py and python -m launch.node are synthset node
    import runpy

    runpy.run_path(f"{__file__.rpartition('/')[0]}/__main__.py", {"COMMAND": "node"}, "__main__")

import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.config.program import folders_of, help_text, this_command
from launch.local.idle import Idle, Read, Thresholds, reader
from launch.plan.devices import cores, places, processes_of, uses_gpu, visible_gpus
from launch.plan.planned import PlannedStage
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.store import leases
from synth.store.folder import StageFolder

OWN = ("NODE_IDX", "TOTAL_NODES", "N_GPUS", "gpus", "idle_utilisation", "idle_memory")


@dataclass(frozen=True)
class Machine:
    """Which machine this is, and what of it may be used."""

    node_idx: int = 0
    total_nodes: int = 1
    n_gpus: int | None = None  # None: auto
    idle: Thresholds | None = None  # None: gpus=all

    def __post_init__(self):
        if not 0 <= self.node_idx < self.total_nodes or (self.n_gpus is not None and self.n_gpus < 1):
            raise InputError(
                f"NODE_IDX={self.node_idx} TOTAL_NODES={self.total_nodes} N_GPUS={self.n_gpus}: "
                "NODE_IDX counts from 0 to TOTAL_NODES-1, N_GPUS from 1"
            )

    def jobs(self, n_places: int) -> tuple[range, int]:
        """(job_idx of each place here, n_jobs): job_idx = i + NODE_IDX * places, n_jobs = TOTAL_NODES * places.

        Machine(1, 2).jobs(8) == (range(8, 16), 16)
        """
        return range(self.node_idx * n_places, (self.node_idx + 1) * n_places), self.total_nodes * n_places

    def places(self, kind: str, config: Mapping, gpus: Sequence[str], n_cores: int) -> list[tuple[str, ...] | None]:
        """Where the workers of a stage go here: GPUs of each, or None for a plain one. More than there is is an InputError."""
        processes = processes_of(kind, config)
        if uses_gpu(kind, config) and gpus:
            if (self.n_gpus or 0) > len(gpus):
                raise InputError(
                    f"N_GPUS={self.n_gpus}: CUDA shows {len(gpus)} GPUs here ({', '.join(gpus)}); use N_GPUS=auto or a smaller number"
                )
            chosen = tuple(gpus[: self.n_gpus])
            if len(chosen) < processes:
                raise InputError(
                    f"a worker of this {kind} stage takes {processes} GPUs, one a shard, and N_GPUS gives {len(chosen)}; "
                    "use more, or merge the shards"
                )
            return places(chosen, n_cores, kind, processes)
        return places((), self.n_gpus or n_cores, kind, processes)


def read_machine(words: Sequence[str], env: Mapping[str, str]) -> tuple[Machine, list[str]]:
    """Our own settings from command line and environment, and the words that are left."""
    own = {name: env[name] for name in OWN[:3] if env.get(name)}
    left = []
    for word in words:
        name, is_setting, value = word.partition("=")
        if is_setting and name in OWN:
            own[name] = value
        else:
            left.append(word)
    try:
        n_gpus = own.get("N_GPUS", "auto")
        thresholds = Thresholds(float(own.get("idle_utilisation", 10)), float(own.get("idle_memory", 1000)))
        which = own.get("gpus", "all")
        if which not in ("all", "idle"):
            raise InputError(f"gpus={which}: all or idle")
        machine = Machine(
            int(own.get("NODE_IDX", 0)),
            int(own.get("TOTAL_NODES", 1)),
            None if n_gpus == "auto" else int(n_gpus),
            thresholds if which == "idle" else None,
        )
    except ValueError as e:
        raise InputError(f"{', '.join(f'{k}={v}' for k, v in own.items())}: must be numbers ({e})") from e
    return machine, left


def in_order(folders: Sequence[StageFolder]) -> list[PlannedStage]:
    """Stage folders as planned stages, each after those that it reads, else as given."""
    stages = {f.path: PlannedStage(f.spec, f.path.parent) for f in folders}
    for path, stage in stages.items():
        if stage.folder != path:
            raise InputError(f"{path}: was renamed after it was planned; its name is {stage.folder.name}")
    order: list[PlannedStage] = []

    def visit(path: Path) -> None:
        if path in stages and stages[path] not in order:
            for up in stages[path].upstream:
                visit(up)
            order.append(stages[path])

    for path in stages:
        visit(path)
    return order


def unheld(folder: StageFolder) -> int:
    """How many units are neither there nor leased."""
    held = set()
    for shard in folder.shards():
        held |= set(leases.newest_generations(folder.path / "leases" / f"{shard:03d}"))
    return len(set(folder.missing()) - held)


def run(machine: Machine, stages: Sequence[PlannedStage], console, retry_failed: bool = False, read: Read | None = None) -> list:
    """All stages, in order, with this machine's workers; their outcomes."""
    from launch.local.pool import Crew
    from launch.local.sequence import run_in_order
    from launch.local.stops import catching
    from launch.local.supervisor import Keeper, Post, wait_for_upstream

    def tell(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    gpus, idle, shifts = visible_gpus(), None, {}
    if machine.idle is not None:
        idle = Idle(read or reader(), machine.idle)

    def shift(folder: StageFolder, missing: int, bars, stop) -> list[int]:
        """The first shift starts all workers. Later ones, while others hold what is left, as many as find something to do; the first
        of them lingers until the leases of the dead can be taken over."""
        if code := wait_for_upstream(folder, stop, tell):
            return [code]
        found = machine.places(folder.spec.kind, folder.spec.config, gpus, cores())
        job_idxs, n_jobs = machine.jobs(len(found))
        first = not shifts.get(folder.path)
        shifts[folder.path] = True
        wanted = min(len(found), missing) if first else min(len(found), 1 + unheld(folder))
        crew = Crew(folder, found, n_jobs, f"{socket.gethostname().partition('.')[0]}-node{machine.node_idx}")
        posts = [Post(j, ("--linger",) if i == 0 else ()) for i, j in enumerate(job_idxs[: max(1, wanted)])]
        return Keeper(crew, posts, stop, tell, idle).run(bars)

    with catching(lambda text: tell(f"\n{text}")) as stop:
        return run_in_order(stages, shift, stop, console, retry_failed)


def main(argv: Sequence[str]) -> int:
    """The exit code."""
    if {"-h", "--help"} & set(argv) or not argv:
        print(help_text(__doc__))
        return EXIT_OK if argv else EXIT_BAD_INPUT
    from rich.console import Console

    from launch.run import WIDE, Session, hydra_main
    from launch.show import summary
    from synth.errors import worst

    try:
        machine, words = read_machine(argv, os.environ)
        folders = folders_of(words)
        if not folders:
            session = Session()
            session.check(words)
            hydra_main(session)
            return session.execute(lambda stages, cluster, console, retry: run(machine, stages, console, retry))
        if len(folders) < len(words):
            raise InputError(
                f"{' '.join(w for w in words if w not in folders)}: settings and stage folders do not go together; "
                "the folders are planned already"
            )
        stages = in_order([StageFolder.open(f) for f in folders])
        console = Console(width=None if sys.stdout.isatty() else WIDE)
        outcomes = run(machine, stages, console)
        summary.show(outcomes, [], this_command(), console)
        return worst([o.code for o in outcomes])
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        return EXIT_BAD_INPUT
