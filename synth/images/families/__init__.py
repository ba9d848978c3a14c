"""Families: how captions become pictures with one kind of diffusers pipeline. One file a family, imported when used.

To add a family
1. Write `families/<name>.py` with a subclass of `Family` (base.py). Most need only `encode`: text embeddings of a padded
   batch, keyed by the pipeline's argument names. Look in the pipeline's source for noise that is not drawn from
   `generator`, or from `generator[0]` alone, and work round it in the family.
   A model of several folders names the further ones in `chain`; they come as `self.parts`, their settings as
   `config.model.parts`. `check` says at plan time what the model cannot do.
2. Add its pipeline class to FAMILIES below, and `conf/model/<name>.yaml` beside the others.
3. Add a builder of a tiny random pipeline to tests/images/tiny.py and a row to MODELS in tests/images/test_models.py.
Importing a family imports neither torch nor diffusers: its checks run at plan time.
"""

import importlib
from collections.abc import Mapping

from synth.images.families.base import Embedded, Family, Part

__all__ = ["FAMILIES", "Embedded", "Family", "Part", "family_class"]

FAMILIES: Mapping[str, str] = {  # class name in model_index.json -> family; any other pipeline is Generic
    "StableDiffusionPipeline": "synth.images.families.sd:StableDiffusion",
    "StableDiffusionXLPipeline": "synth.images.families.sdxl:StableDiffusionXL",
    "StableDiffusion3Pipeline": "synth.images.families.sd3:StableDiffusion3",
    "FluxPipeline": "synth.images.families.flux:Flux",
    "AuraFlowPipeline": "synth.images.families.auraflow:AuraFlow",
    "IFPipeline": "synth.images.families.deepfloyd:DeepFloyd",
    "PixArtSigmaPipeline": "synth.images.families.pixart:PixArtSigma",
    "KolorsPipeline": "synth.images.families.kolors:Kolors",
    "KandinskyV22Pipeline": "synth.images.families.kandinsky22:Kandinsky22",
    "UnCLIPPipeline": "synth.images.families.karlo:Karlo",
    "external": "synth.images.families.external:External",  # no pipeline: a command, see synth/images/external
    "CogView4Pipeline": "synth.images.families.cogview4:CogView4",
}
GENERIC = "synth.images.families.generic:Generic"


def family_class(pipeline: str) -> type[Family]:
    """The family of a pipeline class, by name; imported now, without torch."""
    module, name = FAMILIES.get(pipeline, GENERIC).split(":")
    return getattr(importlib.import_module(module), name)
