"""What Hydra read and merged before, kept within a process: most of a composition is the same from point to point.

A composition reads some thirty YAML files and types, merges them in an order that depends on the groups alone, and sets values from the
command line into the result. Only the last step differs between the points of a sweep, and between the command line's check and the run.
Files are compared by their bytes, so one that is edited meanwhile is read anew.
"""

import copy
import io
import os
import pickle
import types
from collections.abc import Hashable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import hydra._internal.defaults_list
import hydra._internal.hydra
import omegaconf._utils
import omegaconf.base
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository, IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import InputDefault, ResultDefault
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig

FILES, TREES, TEXTS = 512, 64, 4096  # how many are kept: more than a sweep has, and a few megabytes
IMMUTABLE = ("pkg", "structured")  # where Hydra's own files and our types come from
_results: dict[Hashable, ConfigResult | None] = {}
_configs: dict[Hashable, tuple[ConfigResult, "Frozen"]] = {}  # by the identity of a result, which is held
_trees: dict[Hashable, "Frozen"] = {}


class Loader(ConfigLoaderImpl):
    """Hydra's own loader, with a memory."""

    def __init__(self, config_search_path: ConfigSearchPath):
        super().__init__(config_search_path)
        self.repository = _Repository(config_search_path)

    def _compose_config_from_defaults_list(self, defaults: list[ResultDefault], repo: IConfigRepository) -> DictConfig:
        known = _remembering(repo)
        keys = [known.key(str(d.config_path)) for d in defaults]
        if None in keys:
            return super()._compose_config_from_defaults_list(defaults, _Copies(known))
        key = tuple((key, d.config_path, d.package, d.primary) for key, d in zip(keys, defaults, strict=True))
        if key not in _trees:
            tree = super()._compose_config_from_defaults_list(defaults, _Copies(known))
            _keep(_trees, key, Frozen(tree), TREES)
        return _trees[key].thawed()


class _Repository(ConfigRepository):
    """Results of load_config are shared between compositions: they are read, and copied by who merges them."""

    def __deepcopy__(self, memo: dict) -> "_Repository":
        """What Hydra makes for each composition, to be given other sources."""
        twin = copy.copy(self)
        twin.sources = list(self.sources)
        return twin

    def load_config(self, config_path: str) -> ConfigResult | None:
        key = self.key(config_path)
        if key is None:
            return super().load_config(config_path)
        if key not in _results:
            _keep(_results, key, super().load_config(config_path), FILES)
        return _results[key]

    def key(self, config_path: str) -> Hashable | None:
        """What the result of load_config depends on: its source and the file's bytes. None: not known."""
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None:
            return None
        place = (source.scheme(), source.provider, source.path, config_path)
        if source.scheme() in IMMUTABLE:
            return place
        if source.scheme() != "file":
            return None
        with open(os.path.join(source.path, source._normalize_file_name(config_path)), "rb") as f:
            return (*place, f.read())


class _Copies(CachingConfigRepository):
    """A repository whose results may be changed."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        result = super().load_config(config_path)
        if result is None or not isinstance(result.config, DictConfig):
            return copy.deepcopy(result)
        if id(result) not in _configs:
            _keep(_configs, id(result), (result, Frozen(result.config)), FILES)
        return replace(result, config=_configs[id(result)][1].thawed(), header=dict(result.header))


class Frozen:
    """A tree as bytes, from which it is made anew in a fraction of the time of a deep copy. Types are kept beside: ours have no module."""

    def __init__(self, tree: DictConfig):
        self._types: list[Any] = []
        places: dict[int, int] = {}
        kept = self._types

        class Pickler(pickle.Pickler):
            def persistent_id(self, item: Any) -> int | None:
                if not isinstance(item, (type, types.GenericAlias, types.UnionType)):
                    return None
                if id(item) not in places:
                    places[id(item)] = len(kept)
                    kept.append(item)
                return places[id(item)]

        stream = io.BytesIO()
        Pickler(stream, pickle.HIGHEST_PROTOCOL).dump(tree)
        self._bytes = stream.getvalue()

    def thawed(self) -> DictConfig:
        reader = _Reader(io.BytesIO(self._bytes))
        reader.types = self._types
        return reader.load()


class _Reader(pickle.Unpickler):
    """Reads what this process wrote, and nothing else."""

    types: list[Any]

    def persistent_load(self, pid: int) -> Any:
        return self.types[pid]


def register() -> None:
    """Have Hydra use this loader, and OmegaConf remember how interpolations are parsed. Safe to call twice."""
    hydra._internal.hydra.ConfigLoaderImpl = Loader  # type: ignore[misc]
    omegaconf.base.parse = omegaconf._utils.parse = _parsed
    hydra._internal.defaults_list._create_interpolation_map = _choices  # type: ignore[assignment]


_create_interpolation_map = hydra._internal.defaults_list._create_interpolation_map


def _choices(overrides: Any, defaults_list: list[InputDefault], self_added: bool) -> DictConfig | None:
    """What interpolations of a defaults list are resolved with; for a list without any, as nearly all are, nobody asks."""
    if not any(d.is_interpolation() for d in defaults_list):
        return None
    return _create_interpolation_map(overrides, defaults_list, self_added)


@lru_cache(TEXTS)
def _parsed(value: str, parser_rule: str = "configValue", lexer_mode: str = "DEFAULT_MODE") -> Any:
    """The parse tree of a text, which visitors read and never change."""
    return omegaconf.grammar_parser.parse(value, parser_rule, lexer_mode)


def _remembering(repo: IConfigRepository) -> _Repository:
    assert isinstance(repo, CachingConfigRepository) and isinstance(repo.delegate, _Repository)
    return repo.delegate


def _keep(memory: dict, key: Hashable, value: Any, most: int) -> None:
    if len(memory) >= most:
        del memory[next(iter(memory))]
    memory[key] = value
