"""Keys of what a run tells its user at its end."""

from dataclasses import dataclass

from synth.keys import key


@dataclass(frozen=True, kw_only=True)
class NotifyConfig:
    command: str = key(
        "shell command for the end of a run, done or not: it finds what happened in $SYNTHSET_OUTCOME and others", null="none is run"
    )
    timeout_s: float = key("seconds after which it is ended", low=1, high=600)  # a gate has half an hour
