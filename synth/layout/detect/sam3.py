"""SAM 3 (Carion et al. 2025): boxes and masks of a concept, one tag at a time, from one look at the picture.

A picture is encoded once; a row of the detector behind it is a picture with a tag. The library's own preparation needs torchvision:
pictures are stretched to the model's square here, with its colours.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from synth.features.model_folder import ModelFolder, check_folder, normalised, planes
from synth.layout.detect.base import BLANK, LONG, NOT_FINITE, Detector, in_rows
from synth.layout.detect.boxes import Box, Candidates, joined, none
from synth.layout.segment.base import Mask, runs_in

SIDE = 1008  # pixels
HALF = (0.5, 0.5, 0.5)
TEXTS = 4096  # tags whose features are kept: 32 kB each
BACKBONE = "vision_config.backbone_config"  # of config.json: where it says the size of its pictures
DETECTOR = "detector_config"  # of the published folder, that of the video model, whose detector this is


class Sam3(Detector):
    types = ("sam3", "sam3_video")
    cls = "Sam3Model"
    fix = "give a folder of SAM 3 in transformers' layout, such as facebook/sam3"

    @classmethod
    def check(cls, path: Path) -> ModelFolder:
        folder = check_folder(path, cls.types, cls.fix, tokenizer=True)
        part = f"{DETECTOR}.{BACKBONE}" if isinstance(folder.config.get(DETECTOR), Mapping) else BACKBONE
        folder.check_edge(folder.edge("height", SIDE), part, SIDE, cls.fix)
        return folder

    def __init__(self, folder, settings):
        super().__init__(folder, settings)
        self._colours = folder.colours(HALF, HALF)
        self._side = folder.edge("height", SIDE)
        self._text = lru_cache(TEXTS)(self._features)

    def prepare(self, image) -> np.ndarray:
        """Stretched to the model's square."""
        from PIL import Image

        return planes(image.convert("RGB").resize((self._side, self._side), Image.Resampling.BILINEAR))

    def find(self, pictures, sizes, tags) -> list[Candidates]:
        texts = [[self._text(tag) for tag in own] for own in tags]
        found = [[none(Counter(text for text in own if isinstance(text, str)))] for own in texts]
        asked = [[n for n, text in enumerate(own) if not isinstance(text, str)] for own in texts]
        for together in in_rows(range(len(pictures)), lambda i: bool(asked[i]), self.settings.rows):
            rows = [(place, i, n) for place, i in enumerate(together) for n in asked[i]]
            seen = self._seen(np.stack([pictures[i] for i in together])) if rows else None
            for start in range(0, len(rows), self.settings.rows):
                batch = rows[start : start + self.settings.rows]
                out = self._forward(seen, [place for place, _, _ in batch], [texts[i][n] for _, i, n in batch])
                for (_, i, n), *row in zip(batch, *out, strict=True):
                    found[i].append(self._candidates(*row, n, sizes[i]))
        return [joined(parts) for parts in found]

    def masks(self, found: Candidates, boxes: Sequence[Box], size: tuple[int, int]) -> list[Mask | None]:
        """Of the boxes of a picture, cut at them. size: (width, height)."""
        import torch
        from torch.nn.functional import interpolate

        cut: list[Mask | None] = []
        for box in boxes:
            logits = torch.from_numpy(found.masks[box.number])[None, None].to(self.model.device)
            large = interpolate(logits, size[::-1], mode="bilinear", align_corners=False)[0, 0]
            runs = runs_in(large > 0, box.bbox)
            cut.append(None if runs is None else Mask(runs))
        return cut

    # -- texts -------------------------------------------------------------------------------------------------------

    def _features(self, tag: str) -> tuple[Any, Any] | str:
        """([L, D] features, [L] mask) of a tag's text, or why there are none.

        It is computed alone, and as long as the model takes texts: were it computed with others, its last bits would be those of whatever
        tags a worker met before.
        """
        import torch

        ids = self._tokens(tag)
        if isinstance(ids, str):
            return ids
        most = self.model.config.text_config.max_position_embeddings
        filled = torch.tensor([ids + [self.tokenizer.pad_token_id] * (most - len(ids))], device=self.model.device)
        mask = (torch.arange(most, device=self.model.device) < len(ids)).long()
        with torch.inference_mode():
            return self.model.get_text_features(input_ids=filled, attention_mask=mask[None]).pooler_output[0], mask

    def _tokens(self, tag: str) -> list[int] | str:
        """Token numbers of a tag's text, or why there are none. "<|endoftext|>" in a tag is no token of its own."""
        special = frozenset(self.tokenizer.all_special_ids)
        text = self.settings.template.replace("{}", tag)
        ids = [n for n in self.tokenizer(text, add_special_tokens=False)["input_ids"] if n not in special]
        if not tag.strip() or not ids:
            return BLANK
        whole = [self.tokenizer.bos_token_id, *ids, self.tokenizer.eos_token_id]
        return whole if len(whole) <= self.model.config.text_config.max_position_embeddings else LONG

    # -- pictures ----------------------------------------------------------------------------------------------------

    def _seen(self, pixels: np.ndarray) -> Any:
        """What the image encoder says of [N, 3, side, side] pictures."""
        import torch

        with torch.inference_mode():
            return self.model.get_vision_features(normalised(torch.from_numpy(pixels), *self._colours, self.model))

    def _forward(self, seen: Any, places: Sequence[int], texts: Sequence[tuple[Any, Any]]) -> tuple[np.ndarray, np.ndarray, Any]:
        """([R, Q] scores, [R, Q, 4] corners in 0..1, [R, Q, h, w] torch logits of masks) of R rows. places: which of the seen pictures."""
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        chosen = torch.tensor(places, device=self.model.device)
        with torch.inference_mode():
            own = type(seen)(
                fpn_hidden_states=tuple(level[chosen] for level in seen.fpn_hidden_states),
                fpn_position_encoding=tuple(level[chosen] for level in seen.fpn_position_encoding),
            )
            out = self.model(
                vision_embeds=own,
                text_embeds=BaseModelOutputWithPooling(pooler_output=torch.stack([features for features, _ in texts])),
                attention_mask=torch.stack([mask for _, mask in texts]),
            )
            scores = out.pred_logits.sigmoid() * out.presence_logits.sigmoid()
        return scores.float().cpu().numpy(), out.pred_boxes.float().cpu().numpy(), out.pred_masks

    def _candidates(self, scores: np.ndarray, boxes: np.ndarray, masks: Any, label: int, size: tuple[int, int]) -> Candidates:
        if not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
            return none(reason=NOT_FINITE)
        stay = np.flatnonzero(scores > self.settings.box_threshold)
        logits = masks[stay.tolist()].float().cpu().numpy()
        if not np.isfinite(logits).all():
            return none(reason=NOT_FINITE)
        width, height = size
        places = boxes[stay].astype(np.float64) * [width, height, width, height]
        return Candidates(places, scores[stay], np.full(len(stay), label), masks=tuple(logits))
