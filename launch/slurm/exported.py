"""What of the environment reaches jobs: all of it (Slurm's default), a list of variables, or nothing (--export=NONE).

The scripts bring all that a worker needs but secrets, which stand in no file: those have to be exported by name.
"""

from launch.plan.container import variables_in
from launch.slurm.resources import Resources
from synth.errors import InputError
from synth.run.trust import secrets_of
from synth.store.spec import StageSpec

ALL = "ALL"


def exports(words: str, name: str) -> bool:
    """Whether a job gets a variable of the environment of sbatch by --export=WORDS, "" where it is not given.

    >>> [exports(words, "KEY") for words in ("", "ALL", "ALL,A=1", "A,KEY", "KEY=x", "NONE", "NIL", "A")]
    [True, True, True, True, True, False, False, False]
    """
    names = [word.partition("=")[0].strip() for word in words.split(",")]
    return not words or ALL in names or name in names


def check_export(spec: StageSpec, resources: Resources) -> None:
    """InputError for a secret that workers of a stage need and that `cluster.extra.export` keeps from them."""
    words = str(resources.extra.get("export") or "")
    needed = dict.fromkeys([*secrets_of(spec), *variables_in([spec.config, spec.settings])])
    lost = [name for name in needed if not exports(words, name)]
    if lost:
        listed = ",".join([*([words] if words not in ("NONE", "NIL") else []), *lost])
        fix = f"""+cluster.extra.export='"{listed}"'"""
        raise InputError(f"cluster.extra.export={words} ({spec.name}): keeps {', '.join(lost)} from the jobs; {fix} lets it through")
