"""From a planned stage and its resources to the texts of its two scripts and to the order that is stored with them. Pure."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from launch.plan.planned import PlannedStage
from launch.slurm.frozen import archive
from launch.slurm.limits import Limits, split
from launch.slurm.resources import Resources
from launch.slurm.script import ArrayScript, GateScript, Header, array_text, gate_text
from launch.slurm.stored import NAMES, Scripts
from launch.slurm.submissions import FOLDER, Order
from synth.errors import InputError
from synth.host.code import PLANNED, planned_with
from synth.host.source import ORIGIN, SAFE, origin, python_path

STANDARD = ("", "/usr/local/bin", "/usr/bin", "/bin")  # folders of a PATH that any job has


def scripts_of(stage: PlannedStage, resources: Resources, gate: Resources, tasks: int, limits: Limits, command: str) -> Scripts:
    """The exact texts that sbatch gets. `tasks`: array tasks in all; the header's --array is that of the first array."""
    size = split(tasks, max_array(resources, limits))[0][1]
    at_once = f"%{resources.max_parallel}" if resources.max_parallel else ""
    path = python_path()
    frozen = (str(stage.folder / FOLDER / archive().name), archive().sha256) if resources.freeze else None
    path |= {ORIGIN: str(origin())} if frozen else {}
    array = ArrayScript(
        header=Header(stage.folder.name, log(stage.folder, "%A_%a"), {"array": f"0-{size - 1}{at_once}"} | resources.flags()),
        stage=str(stage.folder),
        upstream=tuple(map(str, stage.upstream)),
        command=command,
        worker=(*resources.worker, *stage.trusted),
        srun=resources.srun,
        n_jobs=tasks * resources.workers,
        workers=resources.workers,
        gpus=resources.gpus_worker,
        cpus=resources.cpus_worker,
        max_requeues=resources.max_requeues if resources.requeue else 0,
        # an image has its own Python and code
        env=({PLANNED: ""} if resources.container else path | {PLANNED: planned_with()}) | dict(resources.env),
        modules=resources.modules,
        setup=resources.setup,
        commands=commands(),
        frozen=frozen,
    )
    behind = GateScript(
        header=Header(f"{stage.folder.name}-gate", log(stage.folder, "gate-%j"), gate.flags()),
        stage=str(stage.folder),
        pythons=tuple(dict.fromkeys([gate.python, sys.executable, "python3"])),
        gate=(*SAFE, "-m", "launch.slurm.gate", *stage.trusted),
        path=path,
        env=gate.env,
        modules=gate.modules,
        setup=gate.setup,
        commands=commands(),
        frozen=frozen,
    )
    return Scripts(array_text(array), gate_text(behind))


def order_of(resources: Resources, limits: Limits, number: int, command: str, notice: Mapping | None = None) -> Order:
    script, gate_script = (name.format(number=number) for name in NAMES)
    return Order(
        script=script,
        gate_script=gate_script,
        n_jobs=resources.n_jobs,
        workers=resources.workers,
        max_parallel=resources.max_parallel,
        max_array=max_array(resources, limits),
        heal=resources.heal,
        max_requeues=resources.max_requeues,
        on_missing=resources.on_missing,
        exclude=resources.exclude or "",
        command=command,
        notice=notice or {},
    )


def max_array(resources: Resources, limits: Limits) -> int:
    return resources.max_array_size or limits.max_array


def commands() -> str:
    """The folder of Slurm's commands on this machine; "" where any job finds them, or there are none."""
    folder = os.path.dirname(shutil.which("sbatch") or "")
    return "" if folder in STANDARD else folder


def log(folder: Path, name: str) -> str:
    """The pattern of the log files; Slurm reads % in it as a field."""
    if "\n" in str(folder):
        raise InputError(f"runs_dir: {str(folder)!r} has a line break, which sbatch cannot have in a file name; choose another runs_dir")
    if "\\" in str(folder):
        raise InputError(
            f"runs_dir: {folder} has a backslash, behind which sbatch puts no job numbers into the names of logs; choose another runs_dir"
        )
    return str(folder / "logs").replace("%", "%%") + f"/{name}.log"
