"""Captioners of boxes that are models here, by name: those of conf/box_captioner/. Imported when used."""

from synth.kinds import named
from synth.layout.caption.base import ModelCaptioner

CAPTIONERS = {
    "florence2": "synth.layout.caption.florence2:Florence2Captions",
    "blip2": "synth.layout.caption.blip2:Blip2",
    "qwen2_5_vl": "synth.layout.caption.qwen_vl:Qwen25Vl",
    "qwen3_vl": "synth.layout.caption.qwen_vl:Qwen3Vl",
}


def captioner_class(name: str) -> type[ModelCaptioner]:
    """The class of a captioner, without torch. name: one of the choices of its key."""
    return named(CAPTIONERS[name])
