"""What of the environment reaches the jobs of a site: all of it (Slurm's default), a list, or nothing (--export=NONE, SBATCH_EXPORT).

The scripts bring all that a worker needs but secrets, which stand in no file: those have to be exported by name.
"""

from collections.abc import Mapping

from launch.plan.container import variables_in
from launch.slurm.resources import Resources
from synth.errors import InputError
from synth.host import slurm
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


def check_export(spec: StageSpec, resources: Resources, env: Mapping[str, str] | None = None) -> None:
    """InputError for a secret that workers of a stage need and that a site's export keeps from them. env: sbatch's."""
    given = resources.extra.get("export")
    where = "cluster.extra.export" if given else "SBATCH_EXPORT"
    words = str(given or (slurm.clean() if env is None else env).get("SBATCH_EXPORT", ""))
    needed = dict.fromkeys([*secrets_of(spec), *variables_in([spec.config, spec.settings])])
    lost = [name for name in needed if not exports(words, name)]
    if lost:
        listed = ",".join([*([words] if words not in ("NONE", "NIL") else []), *lost])
        raise InputError(
            f"{where}={words} ({spec.name}): keeps {', '.join(lost)} from the jobs; +cluster.extra.export='\"{listed}\"' lets it through"
        )
