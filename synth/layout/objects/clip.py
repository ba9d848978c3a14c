"""What stages need of a CLIP or SigLIP model to tell how objects and texts go together."""

from collections.abc import Callable, Sequence
from dataclasses import fields

import numpy as np

from synth import numerics
from synth.errors import InputError
from synth.features.encoders import TextEncoder
from synth.features.preparing import Preparation, Stretched
from synth.layout.records import Anno
from synth.layout.vocabulary import check_model, text_encoder_of
from synth.store.folder import StageFolder

INPUT, PLAIN = "model", "a photo of a dog"


def checked(folder: StageFolder) -> None:
    """InputError unless the model of a stage looks whole, and reads texts."""
    check_model(folder.input_path(INPUT))


def opened(folder: StageFolder, rows: int) -> TextEncoder:
    """The model of a stage, so many pictures or texts a call. InputError where it makes no numbers of a plain text: no text of an object
    would get any, which is nothing about that text."""
    path = folder.input_path(INPUT)
    model = text_encoder_of(path)(path, rows, numerics.apply(folder.spec.numerics)["dtype"])
    if not (np.isfinite(model.texts([PLAIN])).all() and np.isfinite(model.pooled([PLAIN])).all()):
        raise InputError(f"{path}: its numbers for a text are not finite; fetch the model again")
    return model


def whole(own: Preparation) -> Stretched:
    """How a crop is prepared: all of it, stretched to the model's square, as ViLD's regions are (Gu et al. 2022, arXiv 2104.13921). CLIP's
    own way cuts the ends off, which would be half of a tall box."""
    return Stretched(**{field.name: getattr(own, field.name) for field in fields(own)} | {"edge": 0})


def features_of(texts: Sequence[str], encode: Callable[[Sequence[str]], np.ndarray]) -> np.ndarray:
    """[N, D] of texts; each different one is encoded once. encode: texts -> [N, D]."""
    different = list(dict.fromkeys(texts))
    place = {text: n for n, text in enumerate(different)}
    found = encode(different)
    return found[[place[text] for text in texts]]


def said(anno: Anno) -> str:
    """What is said of an object: its caption, or its label where it has none."""
    return anno.caption or anno.label
