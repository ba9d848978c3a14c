"""Workers of this machine in containers: the image is looked at once, before the first stage begins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launch.config.clusters import ClusterConfig
from launch.plan.container import AUTO, Container, chosen, variables_in, wrapped
from launch.plan.devices import uses_gpu
from launch.plan.inspection import inspected, merged
from launch.plan.mounts import mounts_of, user_mounts
from launch.plan.planned import PlannedStage
from launch.plan.state import state_of
from synth.store.folder import StageFolder


@dataclass(frozen=True)
class Contained:
    """How the workers of this machine are put into containers."""

    container: Container

    def words(self, folder: StageFolder, worker: Sequence[str], gpus: bool) -> list[str]:
        """What starts a worker with these arguments. gpus: whether it is given some of this machine's."""
        names = variables_in([folder.spec.config, folder.spec.settings])
        command = (*self.container.command(), *worker)
        return list(wrapped(self.container, mounts_of(folder.path, folder.spec), command, gpus, names))

    @property
    def environment(self) -> dict[str, str]:
        return self.container.environment


def container_of(cluster: ClusterConfig) -> Container | None:
    """The container of a cluster's keys, not looked at yet; None: workers run on the host."""
    values: Mapping[str, Any] = vars(cluster)
    found = chosen(values, on_slurm=False)
    if found is None:
        return None
    return Container(
        *found, args=tuple(cluster.container_args), mounts=tuple(user_mounts(cluster.container_mounts, "cluster.container_mounts"))
    )


def named_container(words: Sequence[str]) -> Container | None:
    """Of container=IMAGE among the words of a command line that names stage folders."""
    image = next((w.partition("=")[2] for w in words if w.startswith("container=")), None)
    found = chosen({"container": image, "container_runtime": AUTO}, on_slurm=False, key="container")
    return Container(*found, key="container") if found else None


def contained(
    stages: Sequence[PlannedStage], container: Container | None, gpus: Sequence[str], tell: Callable[[str], None]
) -> Contained | None:
    """Look at the image for the stages that are not done; None without one. InputError: their workers could not begin in it."""
    todo = [s for s in stages if not state_of(s).done]
    if container is None or not todo:
        return None
    wanted = bool(gpus) and any(uses_gpu(s.spec.kind, s.spec.config) for s in todo)
    return Contained(inspected(container, merged(mounts_of(s.folder, s.spec) for s in todo), wanted, tell))
