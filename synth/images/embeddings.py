"""Text embeddings of a unit: each distinct caption once, in fixed padded batches, in memory, never on disk."""

from collections.abc import Mapping, Sequence

from synth.images.families import Embedded, Family


def encode_unit(family: Family, captions: Sequence[str], all_now: bool = False) -> Mapping[str, Embedded]:
    """caption -> its embedding. Distinct captions are encoded in their order of appearance, so replicas cost nothing.

    all_now: the negative prompt too, because the text encoders leave the device before pictures are drawn.
    """
    import torch

    distinct = list(dict.fromkeys(captions))
    with torch.inference_mode():
        if all_now and family.negative_prompts:
            family.negative()
        return {e.caption: e for e in family.embed(distinct)}
