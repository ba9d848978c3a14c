"""How YAML files are read: those of conf/ by libyaml, where PyYAML has it, because reading them in Python was a fifth
of each composition.

Files of a user's own are read by OmegaConf's own loader, whose messages say more of what is wrong in them.
"""

from functools import cache
from pathlib import Path
from typing import IO, Any

import yaml
from omegaconf._utils import get_yaml_loader

from launch.config.folders import CONF


def loader() -> Any:
    """In the place of OmegaConf's get_yaml_loader: called with a stream it gives a loader of it."""
    return _loader_of


def _loader_of(stream: IO[str]) -> Any:
    of_ours = CONF in Path(str(getattr(stream, "name", ""))).parents
    return (_by_libyaml() if of_ours else _in_python())(stream)


@cache
def _in_python() -> type:
    return get_yaml_loader()


@cache
def _by_libyaml() -> type:
    """OmegaConf's loader, its rules for values and keys included, on the parser of libyaml."""
    if not yaml.__with_libyaml__:
        return _in_python()
    from yaml.cyaml import CParser

    class Loader(CParser, _in_python()):  # type: ignore[misc]
        def __init__(self, stream: IO[str]):
            CParser.__init__(self, stream)
            yaml.constructor.SafeConstructor.__init__(self)
            yaml.resolver.Resolver.__init__(self)

    return Loader
