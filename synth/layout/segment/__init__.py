"""Segmenters by name: those of conf/segmenter/. Imported when used."""

from synth.kinds import named
from synth.layout.segment.base import Segmenter

SEGMENTERS = {
    "sam": "synth.layout.segment.sam:Sam",
    "sam_hq": "synth.layout.segment.sam:SamHq",
    "sam2": "synth.layout.segment.sam:Sam2",
}


def segmenter_class(name: str) -> type[Segmenter]:
    """The class of a segmenter, without torch. name: one of the choices of its key."""
    return named(SEGMENTERS[name])
