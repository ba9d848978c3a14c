"""The one place that speaks with Hydra's config loader: groups, options and composed trees of conf/.

Hydra finds conf/ as a folder, wherever it is installed, and folders of the user's own before it. Values that lie in the package
are written as `${package:embedded/...}` in YAML: paths of files that ship with synthset.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import omegaconf._utils
import yaml
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, OverrideParseException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

import synth
from launch.config import registered, remembered, root, yaml_files
from launch.config.doors import HYDRA, check_composed
from launch.config.folders import CONF, own_folders
from synth.errors import InputError
from synth.keys import from_schema, keys_of, option_of

CONFIG_NAME = "config"
VERSION_BASE = "1.3"


class OwnFolders(SearchPathPlugin):
    """Puts the user's folders before conf/, for hydra.main and for Composer. Hydra makes it without arguments: it is told here."""

    folders: ClassVar[Sequence[Path]] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in self.folders:
            search_path.prepend("synthset", f"file://{folder}", anchor="main")


def register(config_dir: str | None = None) -> None:
    """Types, resolvers and folders that Hydra is to know. Safe to call twice; an own folder that cannot be read is an InputError."""
    OwnFolders.folders = own_folders(config_dir)
    omegaconf._utils.get_yaml_loader = yaml_files.loader
    remembered.register()
    Plugins.instance().register(OwnFolders)
    registered.register()
    package = Path(synth.__file__).resolve().parent
    OmegaConf.register_new_resolver("package", lambda path: str(package / path), replace=True)
    OmegaConf.register_new_resolver("folder_of", folder_of, replace=True)


def folder_of(source: str | None) -> str:
    """What runs of a source of pictures are called: its folder or tar; of a stage or export of ours the dataset. "source" of none."""
    if not source:
        return "source"
    try:
        root = Path(source).expanduser().resolve()
        named = root.parent if (root / "stage.json").is_file() else root.parent.parent if root.parent.name == "exports" else root
        return named.name.removesuffix(".tar") if named.is_file() else named.name
    except (OSError, RuntimeError):  # a link to itself, a name that is too long: whoever reads the source says so
        return "source"


class Composer:
    """conf/, and the user's own folders before it, as Hydra sees them."""

    def __init__(self, config_dir: str | None = None, config_name: str | None = None):
        register(config_dir)
        self.config_name = config_name or CONFIG_NAME
        with initialize_config_dir(str(CONF), version_base=VERSION_BASE):
            self._loader = GlobalHydra.instance().config_loader()

    def groups(self) -> dict[str, list[str]]:
        """group -> its options, without Hydra's own groups and without the types."""
        names = [g for g in self._loader.list_groups("") if g != HYDRA]
        return {name: self.options(name) for name in names}

    def options(self, group: str) -> list[str]:
        # of the sources themselves: the loader would copy all types of the store anew for each group
        names = {o for s in self._loader.get_sources() if s.is_group(group) for o in s.list(group, ObjectType.CONFIG)}
        return sorted(o for o in names if not o.startswith(root.SCHEMA_PREFIX))

    def parse(self, overrides: list[str]) -> list[Override]:
        """Overrides in Hydra's grammar; one that is not in it is an InputError that shows it."""
        parser = OverridesParser.create(config_loader=self._loader)
        parsed = []
        for text in overrides:
            try:
                parsed += parser.parse_overrides([text])
            except OverrideParseException as e:
                raise InputError(
                    f"{text}: cannot be read as key=value ({_first_line(e)}); quote special characters: 'key=\"a value\"'"
                ) from e
        return parsed

    def compose(self, overrides: list[str]) -> DictConfig:
        """The composed tree without Hydra's own part. Whatever is wrong in it is an InputError of one line."""
        try:
            tree = self._loader.load_configuration(self.config_name, overrides, RunMode.RUN)
        except (HydraException, OmegaConfBaseException) as e:
            raise InputError(readable(e)) from e
        except yaml.YAMLError as e:
            raise InputError(f"a YAML file cannot be read: {' '.join(str(e).split())}") from e
        except UnicodeDecodeError as e:
            raise InputError(f"a YAML file of the config is no UTF-8 text: {e}; it is one of those that the command names") from e
        settings: Any = OmegaConf.to_container(tree[HYDRA], resolve=False)
        check_composed(settings)
        with open_dict(tree):
            del tree[HYDRA]
        return tree


def readable(error: Exception) -> str:
    """What a Hydra or OmegaConf error says, in one line, with the reason that Hydra hides in the cause."""
    lines = [_first_line(error)]
    cause = error.__cause__
    while cause is not None:
        lines.append(_first_line(cause))
        key = getattr(cause, "full_key", None)
        if key:
            lines.append(f"at {key}")
        cause = cause.__cause__
    return "; ".join(dict.fromkeys(lines))


def typed(tree: DictConfig) -> root.Config:
    """The composed tree as config classes, interpolations resolved. A value that is nowhere given is an InputError."""
    try:
        config = OmegaConf.to_object(tree)
    except OmegaConfBaseException as e:
        raise InputError(_lacking(tree) or readable(e)) from e
    for name, value in vars(config).items():
        _check_option(name, value)
    return from_schema(config)


def _lacking(tree: DictConfig) -> str:
    """What has no value in the tree, and where it gets one; empty if all has."""
    missing = sorted(OmegaConf.missing_keys(tree))
    unknown = [m.split(".")[2] for m in missing if m.startswith("recipe.stages.") and m.endswith(".kind")]
    if unknown:  # a group adds to a stage of the recipe by its name, as prompts=hirpg does
        groups = f"prompts={tree.prompts.maker}"
        return (
            f"recipe={tree.recipe.name}: has no stage {unknown[0]!r}, to which {groups} or another setting adds; choose recipe=class_images"
        )
    return f"{', '.join(missing)}: no value; set it on the command line or in the YAML of its group" if missing else ""


def _check_option(group: str, value: Any) -> None:
    """InputError where a group says which option it is, in a YAML file of the user's own, and has not that option's keys."""
    option = option_of(value)
    if option is not None and not set(keys_of(value.config_class, option)) <= set(vars(value)):
        fix = f"its YAML file must begin with `defaults: [{root.SCHEMA_PREFIX}{option}, _self_]`, as conf/{group}/ does"
        raise InputError(f"{group}.{value.option}={option}: {fix}")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
