"""One form for texts that others wrote: captions on one line, names as they are looked up, and when two captions count as the same."""

import unicodedata

_SINGLE, _DOUBLE = "\u2018\u2019\u201b\u2032", "\u201c\u201d\u201e\u00ab\u00bb"
_QUOTES = str.maketrans(_SINGLE + _DOUBLE, "'" * len(_SINGLE) + '"' * len(_DOUBLE))
_TRAILING = " .,;:!?'\"\u2026"


def normalised(caption: str) -> str:
    """What two captions that count as the same have in common: NFKC, without case, kinds of quotes, blanks and final marks."""
    text = unicodedata.normalize("NFKC", caption.translate(_QUOTES)).translate(_QUOTES).casefold()
    return " ".join(text.split()).rstrip(_TRAILING)


def composed(text: str) -> str:
    """Text in NFC: letters and their accents as one character, however an editor or a file system (macOS) wrote them.

    >>> composed("cafe\\u0301") == "caf\\u00e9"
    True
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def one_line(text: str) -> str:
    """A text of one's own whole on one line: its line breaks become blanks. Composed.

    >>> one_line("\\nA cat\\r\\n  on a mat.\\n")
    'A cat on a mat.'
    """
    text = composed(text)
    return " ".join(text.split()) if "\n" in text or "\r" in text else text


def looked_up(name: str) -> str:
    """What spellings of a name have in common: composed, without case, `_` for blanks.

    >>> looked_up("Sea_Lion ")
    'sea lion'
    """
    return " ".join(composed(composed(name).casefold()).replace("_", " ").split())
