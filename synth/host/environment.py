"""The environment of child processes: everything but what is secret by its name. A child gets a secret only where it is named for it.

A list of what children may have would break sites: LD_LIBRARY_PATH, CUDA, NCCL, conda, modules and proxies are theirs to choose. So what
children may not have is told by name, as people name secrets. KRB5CCNAME stays: without it homes on AFS and NFS are out of reach.
"""

import os
from collections.abc import Collection, Iterable, Mapping

from synth.errors import InputError
from synth.redaction import is_secret

LEAST = 12  # characters of a secret that is looked for in other texts: shorter ones are words


def without_secrets(env: Mapping[str, str] = os.environ, keep: Collection[str] = ()) -> dict[str, str]:
    """An environment for a child. keep: names of the secrets that it is given."""
    return {name: value for name, value in env.items() if name in keep or not is_secret(name)}


def check_set(key: str, names: Iterable[str], env: Mapping[str, str] = os.environ) -> None:
    """InputError for the first variable that a config names and that is not set. key: which names them."""
    if unset := [name for name in names if name not in env]:
        raise InputError(f"{key}: {unset[0]} is not set here; set it where the worker is started, or leave it out")


def secret_in(texts: Iterable[str], env: Mapping[str, str] = os.environ) -> str:
    """The name of a variable whose secret stands in one of these texts; "" if there is none."""
    secrets = {name: value.strip() for name, value in env.items() if is_secret(name) and len(value.strip()) >= LEAST}
    return next((name for text in texts for name, value in secrets.items() if value in text), "")
