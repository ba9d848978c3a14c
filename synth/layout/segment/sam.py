"""SAM (Kirillov et al. 2023), SAM-HQ (Ke et al. 2023) and SAM 2 (Ravi et al. 2024)."""

import numpy as np

from synth.features.model_folder import planes
from synth.layout.segment.base import Segmenter


class Sam(Segmenter):
    types = ("sam",)
    cls = "SamModel"
    fix = "give a folder of SAM in transformers' layout, such as facebook/sam-vit-base"
    edge = "longest_edge"

    def prepare(self, image) -> np.ndarray:
        """Longer side to the model's."""
        from PIL import Image

        scale = self.side / max(image.size)
        size = tuple(max(1, int(edge * scale + 0.5)) for edge in image.size)
        return planes(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))

    def part(self, embeddings, row: int) -> dict:
        return {"image_embeddings": embeddings[row : row + 1]}

    def enlarge(self, logits, prepared, size):
        from torch.nn.functional import interpolate

        square = interpolate(logits, (self.side, self.side), mode="bilinear", align_corners=False)
        own = square[..., : prepared[0], : prepared[1]]
        return interpolate(own, size, mode="bilinear", align_corners=False)[:, 0]


class SamHq(Sam):
    types = ("sam_hq",)
    cls = "SamHQModel"
    fix = "give a folder of SAM-HQ in transformers' layout, such as syscv-community/sam-hq-vit-base"

    def part(self, embeddings, row: int) -> dict:
        whole, layers = embeddings
        return super().part(whole, row) | {"intermediate_embeddings": [layer[row : row + 1] for layer in layers]}


class Sam2(Segmenter):
    types = ("sam2", "sam2_video")  # published folders say the second; its parts that follow objects through videos are not used
    cls = "Sam2Model"
    fix = "give a folder of SAM 2 in transformers' layout, such as facebook/sam2.1-hiera-small"
    edge = "height"

    def prepare(self, image) -> np.ndarray:
        """Stretched to the model's square."""
        from PIL import Image

        return planes(image.convert("RGB").resize((self.side, self.side), Image.Resampling.BILINEAR))

    def part(self, embeddings, row: int) -> dict:
        return {"image_embeddings": [level[row : row + 1] for level in embeddings]}

    def enlarge(self, logits, prepared, size):
        from torch.nn.functional import interpolate

        return interpolate(logits, size, mode="bilinear", align_corners=False)[:, 0]
