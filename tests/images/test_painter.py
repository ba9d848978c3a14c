"""Calls of a family: whatever a batch holds, every call looks the same to the kernels that compute it."""

import numpy as np
import pytest

from synth.images.families import Embedded
from synth.images.painter import Painter


class Seen:
    """Stands in a family's place: hands the start back, and remembers how each lay in memory."""

    def __init__(self):
        self.layouts = []

    def flagged(self, images) -> list[bool]:
        return [False] * len(images)

    def draw(self, items, generators, start, strength):
        self.layouts.append((tuple(start.shape), start.stride(), start.dtype))
        return start[:, :3].float() / 255


@pytest.mark.parametrize("channels", [3, 4])
def test_a_short_batch_begins_from_the_same_shape_and_layout_as_a_whole_one(channels):
    import torch

    family = Seen()
    painter = Painter(family, 4)
    pictures = np.random.default_rng(0).integers(0, 256, (4, 8, 6, channels), dtype=np.uint8)
    start = torch.from_numpy(pictures).permute(0, 3, 1, 2)  # as pictures come: colours last
    for rows in (4, 3, 1):
        made = painter.draw([Embedded("", {})] * rows, list(range(rows)), start[:rows], 1.0)
        assert [(p.pixels() == pictures[i, ..., :3]).all() for i, p in enumerate(made)] == [True] * rows
    assert set(family.layouts) == {((4, channels, 8, 6), (channels * 48, 48, 6, 1), torch.uint8)}
