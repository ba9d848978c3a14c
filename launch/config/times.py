"""Times as Slurm writes them, and the YAML pitfall around them: an unquoted 1:00:00 in a file is the number 3600."""

import re

from synth.errors import InputError

TIME_KEYS = ("time", "time_min")  # last parts of keys of a cluster that hold a time
NAMED_BY_OTHERS = frozenset(["env", "extra", "srun_extra"])  # mappings in which a name means what it means to others
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?$")
_ENDLESS = ("unlimited", "infinite", "0")  # of sbatch --time


def holds_time(key: str) -> bool:
    """Whether a key holds a time.

    >>> holds_time("cluster.stages.images.time_min"), holds_time("cluster.env.time"), holds_time("engine.time")
    (True, False, False)
    """
    parts = key.split(".")
    return parts[0] == "cluster" and parts[-1] in TIME_KEYS and not NAMED_BY_OTHERS & {*parts}


def check_time(key: str, value: object) -> None:
    """A time in a YAML file is a text such as "1:00:00" or "2-12:00:00". A number is an InputError: it may be minutes, as sbatch has them,
    or what YAML made of an unquoted 1:00:00."""
    if value is None:
        return
    if isinstance(value, (int, float)):
        text = f"{int(value) // 3600}:{int(value) // 60 % 60:02d}:{int(value) % 60:02d}"
        minutes = f', or "{value}" for minutes' if isinstance(value, int) else ""
        raise InputError(
            f'{key}: {value} is a number, because YAML reads an unquoted 1:00:00 as 3600; quote the time: {key}: "{text}"{minutes}'
        )
    limit(str(value), key)


def typed_time(key: str, value: object) -> None:
    """A time on the command line: Hydra leaves 1:00:00 as it is there, and a whole number is minutes, as it is for sbatch."""
    if value is not None:
        limit(str(value), key)


def limit(text: str, key: str = "time") -> int | None:
    """Seconds of a limit as sbatch takes it; None: no limit.

    >>> limit("90"), limit("1:30:00"), limit("UNLIMITED"), limit("0")
    (5400, 5400, None, None)
    """
    return None if text.lower() in _ENDLESS else seconds(text, key)


def length(text: str, key: str = "time") -> int:
    """Seconds of a time in one unit, or in a form of Slurm's.

    >>> length("8h"), length("30m"), length("1.5d"), length("1-00:00:00")
    (28800, 1800, 129600, 86400)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not match and not _TIME.match(text):
        raise InputError(f"{key}: {text!r} is not a time; write 8h, 30m or 2d, or as Slurm does: 1-12:00:00")
    return round(float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]) if match else seconds(text, key)


def seconds(text: str, key: str = "time") -> int:
    """Slurm's forms: "30" minutes, "30:00", "1:30:00", "2-12" days-hours, "2-12:30", "2-12:30:00".

    >>> seconds("1:30:00"), seconds("2-12"), seconds("90")
    (5400, 216000, 5400)
    """
    match = _TIME.match(text)
    if not match:
        raise InputError(f'{key}: {text!r} is not a time; write "H:MM:SS", "D-HH:MM:SS" or minutes, in quotes')
    days, a, b, c = (int(g or 0) for g in match.groups())
    if match[1] is not None:
        return days * 86400 + a * 3600 + b * 60 + c
    if match[3] is None:
        return a * 60
    return a * 60 + b if match[4] is None else a * 3600 + b * 60 + c
