"""When two captions count as the same."""

import unicodedata

_SINGLE, _DOUBLE = "\u2018\u2019\u201b\u2032", "\u201c\u201d\u201e\u00ab\u00bb"
_QUOTES = str.maketrans(_SINGLE + _DOUBLE, "'" * len(_SINGLE) + '"' * len(_DOUBLE))
_TRAILING = " .,;:!?'\"\u2026"


def normalised(caption: str) -> str:
    """What two captions that count as the same have in common: NFKC, without case, kinds of quotes, blanks and final marks."""
    text = unicodedata.normalize("NFKC", caption.translate(_QUOTES)).translate(_QUOTES).casefold()
    return " ".join(text.split()).rstrip(_TRAILING)
