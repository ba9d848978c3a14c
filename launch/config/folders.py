"""Where YAML files are looked for: a user's own folders, laid out like conf/, and then conf/ itself. Imports no Hydra."""

import os
from collections.abc import Mapping
from pathlib import Path

from synth.errors import InputError, not_trouble

CONF = (Path(__file__).resolve().parents[1] / "conf").resolve()  # a link to conf/ in a clone, a folder in a wheel
STANDING = "SYNTHSET_CONF"  # folders, separated as in PATH


def own_folders(config_dir: str | None = None, env: Mapping[str, str] = os.environ) -> list[Path]:
    """--config-dir, then the folders of SYNTHSET_CONF: what is found first wins. One that cannot be read is an InputError."""
    named = [("--config-dir", config_dir)] if config_dir is not None else []
    named += [(STANDING, word) for word in env.get(STANDING, "").split(os.pathsep) if word]
    folders = []
    for origin, word in named:
        folder = Path(word).expanduser().absolute()
        try:
            os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(f"{origin} {word}: no such folder") from None
        except OSError as e:
            not_trouble(folder, e)
            raise InputError(f"{origin} {word}: cannot be read ({e.strerror})") from e
        folders.append(folder)
    return list(dict.fromkeys(folders))
