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
                       A MIG slice is a GPU of its own. Indices count as nvidia-smi counts them (docs/gpus.md)
                       On a machine without GPUs a number counts plain workers. A captioner of several shards takes as many GPUs a worker
Settings:
  gpus=all             all of them at once | idle: each GPU when it has been idle for 3 readings, 5 s apart (pip install nvidia-ml-py)
  container=IMAGE      of stage folders: workers run in it, as with cluster.container=IMAGE for settings (containers/README.md)
  idle_utilisation=10  percent, idle_memory=1000 MiB: a GPU at or below both is idle
  trust=true           do what stage folders from elsewhere name, run a command, say (docs/security.md): read their stage.json first

Exit codes: 0 every stage is done; 75 stopped, run it again; 65 bad input; 70 a unit failed three times.
"""

if __name__ == "__main__":  # python launch/node.py and python -m launch.node are synthset node
    import runpy

    runpy.run_path(f"{__file__.rpartition('/')[0]}/__main__.py", {"COMMAND": "node"}, "__main__")

import os
import sys
from collections.abc import Callable, Mapping, Sequence

from launch.config.program import folders_of, help_text, this_command
from launch.local.contained import container_of, named_container
from launch.local.idle import Thresholds
from launch.local.node import Machine, run
from launch.local.sequence import in_order
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError, tool, worst
from synth.store.folder import StageFolder

OWN = ("NODE_IDX", "TOTAL_NODES", "N_GPUS", "gpus", "idle_utilisation", "idle_memory")
TRUST = "trust=true"


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


def in_containers(machine: Machine) -> Callable:
    """What runs planned stages on this machine, in the container that the settings name."""
    return lambda stages, cluster, console, retry: run(machine, stages, console, retry, container=container_of(cluster))


def main(argv: Sequence[str]) -> int:
    """The exit code."""
    if {"-h", "--help"} & set(argv) or not argv:
        print(help_text(__doc__))
        return EXIT_OK if argv else EXIT_BAD_INPUT
    from rich.console import Console

    from launch.run import WIDE, Session, planned_and_run
    from launch.show import summary

    def work() -> int:
        machine, words = read_machine(argv, os.environ)
        trust, words = TRUST in words, [w for w in words if w != TRUST]
        folders = folders_of(words)
        if trust and not folders:
            raise InputError(f"{TRUST}: is for stage folders; what is planned of your own settings is yours")
        if not folders:
            return planned_and_run(Session(), words, in_containers(machine))
        container = named_container(words)
        words = [w for w in words if not w.startswith("container=")]
        if len(folders) < len(words):
            settings = " ".join(w for w in words if w not in folders)
            raise InputError(f"{settings}: settings and stage folders do not go together; the folders are planned already")
        stages = in_order([StageFolder.open(f) for f in folders], trust)
        console = Console(width=None if sys.stdout.isatty() else WIDE)
        outcomes = run(machine, stages, console, container=container)
        summary.show(outcomes, [], this_command(), console)
        return worst([o.code for o in outcomes])

    return tool(work)
