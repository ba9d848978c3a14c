"""Hydra's other doors: settings of Hydra itself. Only planning passes through Hydra here, so that most would do nothing, or only plan where
the user meant to run: a launcher of Hydra would queue jobs that end with nothing made. They are refused with what to type instead.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synth.errors import InputError

HYDRA = "hydra"
OWN_FILES = "YAML files of your own are found by --config-dir DIR, or in the folders of SYNTHSET_CONF"
PLACE = "runs_dir=DIR says where stages go, export.NAME.out=DIR where an export goes"
SWEEP = "a sweep is -m KEY=A,B"
JOBS = "cluster=slurm queues the jobs of a run, of all points of a sweep together; cluster=local runs them here"


@dataclass(frozen=True)
class Door:
    """A setting of Hydra, as it has to be, and what to type instead of another value."""

    key: str  # below "hydra."
    plain: tuple[Any, ...]  # values that leave it shut: ours, and Hydra's own default
    instead: str


_CORE = "hydra._internal.core_plugins.basic"
DOORS = (
    Door("launcher._target_", (f"{_CORE}_launcher.BasicLauncher",), JOBS),
    Door("sweeper._target_", (f"{_CORE}_sweeper.BasicSweeper",), SWEEP),
    Door("sweeper.params", (None, {}), SWEEP),
    Door("sweeper.max_batch_size", (None,), "the points of a sweep are planned one behind the other, and run together"),
    Door("mode", (None, "RUN"), SWEEP),
    Door("searchpath", ([],), OWN_FILES),
    Door("run.dir", (".", "outputs/${now:%Y-%m-%d}/${now:%H-%M-%S}"), PLACE),
    Door("sweep.dir", ("multirun/${now:%Y-%m-%d}/${now:%H-%M-%S}",), PLACE),
    Door("sweep.subdir", ("${hydra.job.num}",), PLACE),
    Door("output_subdir", (None, ".hydra"), "stage.json in each stage's folder is the record"),
    Door("job.chdir", (None, False), "nothing is written where a command is run; " + PLACE),
    Door("job.env_set", ({},), "set variables before the command; of Slurm's jobs: +cluster.env.NAME=VALUE"),
    Door("job.env_copy", ([],), "jobs get the environment of the command; more: +cluster.env.NAME=VALUE"),
    Door("callbacks", ({},), "they would see planning alone; `status --json` tells programs what a run made"),
)
GROUPS, OWN = ("launcher", "sweeper"), "basic"  # the option that we have of each
HARMLESS = ("verbose", "job_logging", "hydra_logging", "help", "hydra_help", "job.name")


def check_flags(args: argparse.Namespace) -> None:
    """InputError for a flag of Hydra that would lead past our configs."""
    if args.config_path is not None:
        raise InputError(f"--config-path {args.config_path}: conf/ is always read; {OWN_FILES}, and are found before it")
    if args.package is not None and not args.cfg:
        raise InputError(
            f"-p {args.package}: chooses a part of what --cfg job shows, and nothing without it; a partition is cluster.partition=NAME"
        )
    if args.resolve and not args.cfg:
        raise InputError("--resolve: is for what --cfg job shows, and nothing without it")
    ways = {"--run": args.run, "-m": args.multirun, "--cfg": args.cfg, "--info": args.info, "--shell-completion": args.shell_completion}
    if len(both := [flag for flag, given in ways.items() if given]) > 1:
        raise InputError(f"{' '.join(both)}: each asks for something else; leave all but one out")
    if args.experimental_rerun is not None:
        raise InputError("--experimental-rerun: the same command again goes on where a run stopped")


def check_setting(key: str, text: str, value: Any = ...) -> None:
    """InputError for a setting of Hydra on the command line that opens a door. key: as written, "hydra.run.dir" or "hydra/launcher"; text:
    the whole word; value: what it is set to, where that is one value."""
    name = key.replace("/", ".").partition(".")[2]
    if any(name == known or name.startswith(f"{known}.") for known in HARMLESS):
        return
    if any(d.key == name and value in d.plain for d in DOORS) or (name in GROUPS and value == OWN):
        return
    door = next((d for d in DOORS if f"{d.key}.".startswith(f"{name}.") or name.startswith(f"{d.key}.")), None)
    door = door or next((d for d in DOORS if d.key.partition(".")[0] == name.partition(".")[0]), None)
    instead = door.instead if door else f"of Hydra's settings those of {HYDRA}.verbose and its logging count"
    raise InputError(f"{text}: only planning passes through Hydra here; {instead}")


def check_composed(settings: Mapping[str, Any]) -> None:
    """The same of what YAML files say. settings: the composed node `hydra`, interpolations as they are written."""
    for door in DOORS:
        value: Any = settings
        for part in door.key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value not in door.plain and value is not None:
            raise InputError(f"{HYDRA}.{door.key}={value} (of a YAML file): only planning passes through Hydra here; {door.instead}")
