"""Checks of a caption on itself alone. A caption that fails is redrawn; duplicates are aggregation's business."""

import re
import unicodedata

from synth.config import CaptionsConfig

_META = re.compile(
    r"^(sure|certainly|of course|here (is|are)|okay|ok)\b[,!:]|\b(as an ai|language model|i cannot|i can't|i'm sorry|i am sorry)\b",
    re.IGNORECASE,
)


def reject_reason(caption: str, class_name: str, config: CaptionsConfig) -> str:
    """Why a caption is not taken: empty, no_class, meta, too_short, too_long, markup; "" if it is."""
    if not caption:
        return "empty"
    if "=>" in caption or "[concept]" in caption:
        return "markup"
    if _META.search(caption):
        return "meta"
    words = len(caption.split())
    if words < config.min_words:
        return "too_short"
    if words > config.max_words:
        return "too_long"
    if config.must_name_class and not names_class(caption, class_name):
        return "no_class"
    return ""


def names_class(caption: str, class_name: str) -> bool:
    """Whether a caption names its class: as a whole word or phrase, whatever the case, accents' form or plural -s / -es."""
    name = _fold(class_name)
    return bool(name) and re.search(rf"(?<!\w){re.escape(name)}(e?s)?(?!\w)", _fold(caption)) is not None


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().replace("_", " ").split())
