"""Makes the types of all keys known to Hydra. Imports it; launch.config.root does not, for who only wants to know the keys."""

import functools

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import DictConfig, OmegaConf

from launch.config.root import GROUPS, SCHEMA_PREFIX, Config
from synth.keys import schema


class _Type(ConfigNode):
    """A type in Hydra's store, which becomes a tree when it is first read: that of cluster=slurm, with a node for each kind of stage, takes
    a third of the time of a whole command, and most commands read it never."""

    def __init__(self, name: str, group: str | None, of: type):
        self.name, self.group, self.package, self.provider = name, group, None, None
        self._of = of
        self._own: DictConfig | None = None

    @property
    def node(self) -> DictConfig:
        return _tree(self._of) if self._own is None else self._own

    @node.setter
    def node(self, tree: DictConfig) -> None:  # of the copy that Hydra makes for who reads it
        self._own = tree


@functools.cache
def _tree(of: type) -> DictConfig:
    return OmegaConf.structured(of)


def register() -> None:
    """Make the types known to Hydra; call it before composing. Safe to call twice."""
    store = ConfigStore.instance()
    if f"{SCHEMA_PREFIX}config.yaml" in store.repo:
        return
    store.repo[f"{SCHEMA_PREFIX}config.yaml"] = _Type(f"{SCHEMA_PREFIX}config.yaml", None, schema(Config))
    for group, types in GROUPS.items():
        folder = store.repo.setdefault(group, {})
        for name, node in types.items():
            folder[f"{SCHEMA_PREFIX}{name}.yaml"] = _Type(f"{SCHEMA_PREFIX}{name}.yaml", group, node)
    # Hydra copies its repository, and with it this store, for every composition, and again each node that it takes out of it.
    store.__deepcopy__ = lambda memo: store  # type: ignore[attr-defined]
