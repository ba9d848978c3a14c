"""How a server is reached, and how patiently. Nothing here is in a fingerprint: a new address buys no caption twice."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

from synth import foreign
from synth.errors import InputError
from synth.redaction import keep

# of its fields in inputs.json
_SHAPES: Mapping[str, object] = {
    **dict.fromkeys(("base_url", "api_key_env", "health"), str),
    **dict.fromkeys(("timeout", "longest_wait", "price_in", "price_out", "start_timeout"), float),
    **dict.fromkeys(("concurrency", "retries", "restarts"), foreign.COUNT),
    "flags": [str],
    "pass_env": foreign.Maybe([str], []),
    "max_requests": foreign.Maybe(foreign.COUNT, 0),
    "max_cost": foreign.Maybe(float, 0.0),
}


@dataclass(frozen=True)
class Endpoint:
    """The settings of engines `openai` and `served`."""

    base_url: str = ""  # ends in /v1 for most servers; "" where the worker starts the server itself
    api_key_env: str = ""  # name of the variable that holds the key; "" for servers that want none
    concurrency: int = 8  # requests in flight at once
    timeout: float = 120.0  # seconds for one answer
    retries: int = 8  # tries of one request after its first
    longest_wait: float = 600.0  # seconds: a server that asks for a longer pause is given up for now
    price_in: float = 0.0  # money for a million tokens of requests
    price_out: float = 0.0  # and of answers
    max_requests: int = 0  # answers of a stage; 0: no limit
    max_cost: float = 0.0  # money of a stage by the two prices; 0: no limit
    health: str = "/health"  # served: path that answers 200 once requests may come
    start_timeout: float = 1800.0  # served: seconds until then
    restarts: int = 3  # served: starts after the first, for a server that dies
    flags: tuple[str, ...] = ()  # served: more words of the command, such as change only its speed
    pass_env: tuple[str, ...] = ()  # served: names of variables with secrets that the server gets

    def settings(self) -> dict:
        """As plain data, for inputs.json."""
        return asdict(self) | {"flags": list(self.flags), "pass_env": list(self.pass_env)}

    @classmethod
    def of(cls, settings: Mapping, where: str) -> "Endpoint":
        """Back from inputs.json, which may say more; InputError if it was written by another version or by hand."""
        what = f"{where}: its settings are not those of a captioner"
        fields = foreign.obj(dict(settings), what, "run the command again to plan anew", **_SHAPES)
        return cls(**fields | {"flags": tuple(fields["flags"]), "pass_env": tuple(fields["pass_env"])})

    def check(self) -> None:
        """InputError for what its keys alone do not tell, naming the key."""
        if self.base_url:
            check_url(self.base_url)
        for key in ("timeout", "longest_wait", "start_timeout"):
            if not getattr(self, key) > 0:
                raise InputError(f"captioner.{key}={getattr(self, key)}: seconds, more than 0")
        if not self.health.startswith("/"):
            raise InputError(f"captioner.health={self.health!r}: a path of the server such as /health or /v1/models")

    def key(self) -> str:
        """The API key, from the environment alone. InputError names a variable that is not set, or holds what no header may."""
        if not self.api_key_env:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise InputError(
                f"{self.api_key_env}: not set; captioner.api_key_env names the variable that holds the key of {self.base_url}"
                "; captioner.api_key_env=null for a server that wants none"
            )
        if not key.isascii() or not key.isprintable():
            raise InputError(f"{self.api_key_env}: holds characters that no key has, such as a line break; set it to the key alone")
        return keep(key)


def check_url(url: str) -> None:
    """InputError unless it is an http address without name and password: those would stand in inputs.json for all to read."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise InputError(f"captioner.base_url: cannot be read ({e}); it looks like https://host/v1") from e
    if parts.username or parts.password:
        raise InputError("captioner.base_url: holds a name or password; give the key in the variable that captioner.api_key_env names")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.query or parts.fragment:
        raise InputError(f"captioner.base_url={url!r}: it looks like https://host/v1, without a query")
