"""Stage kind `judge_report`: a judgement as people and programs read it.

    index.html           the page of this judgement, one file with all that it shows
    judge.json           its numbers: judge.schema.json says what stands there
    correct.npy          [S, M] bool: whether the probe of a seed on the judged set was right about a test picture, for paired comparisons
    pictures/made-12.png the pictures that the page shows, scaled down
One slot. Its sample holds judge.json, and names, sizes and digests of the files.
"""

import io
import json
from functools import cached_property
from typing import Any

import numpy as np

from synth.errors import InputError
from synth.export.page_parts import thumbnail
from synth.images.decode import decode_whole
from synth.judge.config import JudgeReportConfig
from synth.judge.finetuning import add_finetuned
from synth.judge.page import page, worst_first
from synth.judge.parts import MADE, REAL, TEST
from synth.judge.reading import CORRECT, JSON, PICTURES, comparable, point_of
from synth.judge.sets import Sets, read_sets
from synth.judge.summary import summary
from synth.run.place import Files, Pages
from synth.store.folder import StageFolder

INDEX, FINETUNE = "index.html", "finetune"
SIDE, QUALITY = 128, 85  # pixels of a picture's longer side, and of the JPEG of one that was larger
PAIRS = 6  # duplicates and leaks of a kind that are shown


class JudgeReport(Pages):
    config: JudgeReportConfig

    @cached_property
    def judge(self) -> StageFolder:
        return self.folder.upstream("judge")[0]

    @cached_property
    def sets(self) -> Sets:
        return read_sets(self.judge)

    def key_of(self, slot: int) -> str:
        return "judge"

    def whole(self) -> dict[str, bytes]:
        """judge.json, and the page, which shows the pictures that lie beside it."""
        facts = self.facts("judge")["judge"]
        html = page(f"Judge: {facts['name']}", comparable([point_of(self.out.path, facts)]))
        return {JSON: json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n", INDEX: html.encode()}

    def make(self, slot: int) -> dict:
        """Put the pictures into their places; judge.json, and `files`: name -> (size, sha256)."""
        facts, correct = summary(self.judge, self.sets)
        if FINETUNE in self.folder.spec.upstream:
            add_finetuned(facts, self.folder.upstream(FINETUNE)[0])
        files: Files = {}
        if correct is not None:
            self.keep(files, CORRECT, _npy(correct))
        facts["shown"] = [self._class(one, files) for one in worst_first(facts["classes"])[: self.config.worst]]
        same, leaks = facts["duplicates"], facts["leaks"]
        same["examples"] = {
            name: [self._pair((MADE, a), (MADE, b), s, files) for a, b, s in pairs[:PAIRS]] for name, pairs in same["examples"].items()
        }
        if leaks:
            leaks["examples"] = [self._pair((MADE, a), (TEST, b), s, files) for a, b, s in leaks["examples"][:PAIRS]]
        return {"judge": facts, "files": files}

    def _class(self, one: dict, files: Files) -> dict[str, Any]:
        """Pictures of a class, evenly over each set; test pictures where there are no real ones."""
        number = self.sets.class_names.index(one["name"])
        shown: dict[str, Any] = {"class": one["name"]}
        for name in (MADE, REAL if self.sets.real is not None else TEST):
            if (there := self.sets.named.get(name)) is not None:
                rows = there.of_class(number)
                most = min(self.config.shown, len(rows))
                slots = there.slots[rows[np.arange(most) * len(rows) // max(1, most)]]
                shown[name] = [file for slot in slots if (file := self._picture(name, int(slot), files))]
        return shown

    def _pair(self, one: tuple[str, int], other: tuple[str, int], similarity: float, files: Files) -> dict[str, Any]:
        shown = [self._picture(*each, files) for each in (one, other)]
        names = [f"{name} {slot}" for name, slot in (one, other)]
        return {"names": names, "similarity": similarity, "files": shown if all(shown) else []}

    def _picture(self, name: str, slot: int, files: Files) -> str:
        """The file of a picture, scaled down; "" of one that cannot be read any more."""
        file = next((f for f in files if f.startswith(f"{PICTURES}/{name}-{slot}.")), "")
        if file:
            return file
        try:
            decoded = decode_whole(self.sets.named[name].file(slot))
        except InputError:  # it was there when its features were computed; the page does without
            return ""
        if decoded.pixels is None:
            return ""
        data, ext = _scaled(decoded.pixels)
        file = f"{PICTURES}/{name}-{slot}.{ext}"
        self.keep(files, file, data)
        return file


def _npy(rows: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, rows, allow_pickle=False)
    return out.getvalue()


def _scaled(pixels: np.ndarray) -> tuple[bytes, str]:
    """(file, extension): a small picture as it is, a larger one as a JPEG."""
    from PIL import Image

    return thumbnail(Image.fromarray(pixels), SIDE, QUALITY)
