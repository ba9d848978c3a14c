"""Times as Slurm writes them, and the YAML pitfall around them: an unquoted 1:00:00 is the number 3600."""

import re

from synth.errors import InputError

TIME_KEYS = ("time", "time_min")  # last parts of keys that hold a time
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?$")


def check_time(key: str, value: object) -> None:
    """A time is a text such as "1:00:00" or "2-12:00:00". A number is what YAML made of an unquoted one: an InputError."""
    if value is None:
        return
    if isinstance(value, (int, float)):
        text = f"{int(value) // 3600}:{int(value) // 60 % 60:02d}:{int(value) % 60:02d}"
        raise InputError(f'{key}: {value} is a number, because YAML reads an unquoted 1:00:00 as 3600; quote the time: {key}: "{text}"')
    seconds(str(value), key)


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
