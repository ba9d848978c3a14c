"""Text embeddings of a unit: each distinct caption once, in fixed padded batches, in memory, never on disk."""

from collections.abc import Mapping, Sequence

from synth.images.families import Embedded, Family


def encode_unit(family: Family, captions: Sequence[str]) -> Mapping[str, Embedded]:
    """caption -> its embedding. Distinct captions are encoded in their order of appearance, so replicas cost nothing."""
    import torch

    distinct = list(dict.fromkeys(captions))
    with torch.inference_mode():
        return {e.caption: e for e in family.embed(distinct)}
