"""What reaches a terminal is printable: text of files, servers and children moves no cursor, changes no title, and hides nothing."""

import re

LONGEST = 10_000  # characters of one text that are shown
# Control characters (ESC and C1 are what terminals obey), half characters, line separators, and what turns the direction of reading.
# Joiners and marks stay: emoji and many scripts need them.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb]")
_BUT_LINES = re.compile(_UNPRINTABLE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def printable(text: object, longest: int = LONGEST) -> str:
    r"""Text on one line, with what a terminal would obey as visible escapes; what is longer than `longest` is cut, and says so.

    >>> printable("tulip\x1b[2J\n郁金香")
    'tulip\\x1b[2J\\n郁金香'
    """
    return _UNPRINTABLE.sub(_visible, _cut(str(text), longest))


def printable_lines(text: object, longest: int = LONGEST) -> str:
    r"""The same of text that has lines, such as a message or a traceback: newlines and tabs stay. Carriage returns do not: they overwrite.

    >>> printable_lines("one\n\ttwo\r\x07")
    'one\n\ttwo\\r\\x07'
    """
    return _BUT_LINES.sub(_visible, _cut(str(text), longest))


def message(text: object) -> str:
    r"""What is told of something, printable. Lines behind the first one are indented, if they are not: what stands in the name of a file
    passes for no line of ours.

    >>> message("error: a\nwhole   images")
    'error: a\n  whole   images'
    """
    return re.sub(r"\n(?=[^ \n])", "\n  ", printable_lines(text))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}... (and {len(text) - longest} characters more)"


def _visible(match: re.Match[str]) -> str:
    c = match[0]
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(c) or (f"\\x{ord(c):02x}" if ord(c) < 0x100 else f"\\u{ord(c):04x}")
