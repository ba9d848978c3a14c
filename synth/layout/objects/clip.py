"""What stages need of a CLIP or SigLIP model to tell how objects and texts go together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from synth import numerics
from synth.layout.records import Anno
from synth.layout.vocabulary import ClipTags, Stretched, check_model, model_at
from synth.store.folder import StageFolder

INPUT = "clip"
TOO_LARGE = "lower scores.batch_size"


def checked(folder: StageFolder) -> None:
    """InputError unless the model of a stage looks whole."""
    check_model(folder.input_path(INPUT))


def opened(folder: StageFolder, rows: int) -> ClipTags:
    """The model of a stage, so many pictures or texts a call."""
    path = folder.input_path(INPUT)
    model = model_at(path)(path, rows, numerics.apply(folder.spec.numerics)["dtype"])
    model.too_large = TOO_LARGE
    return model


def whole(model: ClipTags) -> Stretched:
    """How a crop is prepared: all of it, stretched to the model's square, as ViLD's regions are (Gu et al. 2022, arXiv 2104.13921). CLIP's
    own way cuts the ends off, which would be half of a tall box."""
    own = model.preparation
    return Stretched(own.side, own.mean, own.std)


def features_of(texts: Sequence[str], encode: Any) -> np.ndarray:
    """[N, D] of texts; each different one is encoded once. encode: texts -> [N, D]."""
    different = list(dict.fromkeys(texts))
    place = {text: n for n, text in enumerate(different)}
    found = encode(different)
    return found[[place[text] for text in texts]]


def said(anno: Anno) -> str:
    """What is said of an object: its caption, or its label where it has none."""
    return anno.caption or anno.label
