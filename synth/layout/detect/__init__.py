"""Detectors by name: those of conf/detector/. Imported when used."""

from synth.kinds import named
from synth.layout.detect.base import Detector

DETECTORS = {
    "mm_grounding_dino": "synth.layout.detect.grounding_dino:MMGroundingDino",
    "grounding_dino": "synth.layout.detect.grounding_dino:GroundingDino",
    "owlv2": "synth.layout.detect.owlv2:Owlv2",
    "florence2": "synth.layout.detect.florence2:Florence2",
    "sam3": "synth.layout.detect.sam3:Sam3",
}


def detector_class(name: str) -> type[Detector]:
    """The class of a detector, without torch. name: one of the choices of its key."""
    return named(DETECTORS[name])
