"""The registry of clusters: cluster.kind -> what runs or submits the planned stages. Imported when used."""

import importlib
from collections.abc import Callable

from synth.errors import InputError

CLUSTERS = {
    "local": "launch.local.runner:run",
    "debug": "launch.local.debug:run",
    "slurm": "launch.slurm.submit:run",
}
PREVIEWS = {"slurm": "launch.slurm.preview:show"}


def runner(kind: str) -> Callable:
    """run(stages, cluster, console, retry_failed) -> outcomes of a kind of cluster."""
    if kind not in CLUSTERS:
        raise InputError(f"cluster.kind={kind}: no such cluster; there are {', '.join(CLUSTERS)}")
    module, name = CLUSTERS[kind].split(":")
    return getattr(importlib.import_module(module), name)


def preview(kind: str) -> Callable | None:
    """show(stages, cluster, console): what dry_run=true adds for a kind of cluster, or None."""
    if kind not in PREVIEWS:
        return None
    module, name = PREVIEWS[kind].split(":")
    return getattr(importlib.import_module(module), name)
