"""Batches drawn by a command: requests out, answers back, in the place of synth.images.painter.Painter."""

import contextlib
import io
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from synth import foreign
from synth.errors import InputError, Killed, StageBroken, StoreError
from synth.host.children import adding
from synth.host.deaths import no_room
from synth.host.scratch import Scratch
from synth.images.config import DrawingConfig
from synth.images.external.child import Child, Gone
from synth.images.external.settings import Patience
from synth.images.families.base import Embedded
from synth.images.sources.base import MAX_BYTES
from synth.redaction import redacted

HELLO, VERSION = "synthset-external", 1
NOISE = 1000  # lines that are no protocol, between two answers; libraries like to print
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM")
FATAL = 2  # times that one request may be the end of the command


class Picture:
    """An answer: pixels [H, W, 3] uint8, or the reason why there are none. How they are computed is the command's affair."""

    rows, refused = 1, False

    def __init__(self, pixels: np.ndarray | None = None, reason: str = ""):
        self._pixels, self.reason = pixels, reason

    def pixels(self) -> np.ndarray | None:
        return self._pixels


class CommandPainter:
    """Keeps the command running between batches. Files are exchanged in a folder of this node's own."""

    def __init__(self, words: Sequence[str], config: DrawingConfig, patience: Patience, logs: Path, keep: Sequence[str] = ()):
        """keep: names of the secrets in our environment that the command gets."""
        self.words, self.config, self.patience, self.keep = list(words), config, patience, keep
        self.log = logs / f"external-{platform.node()}-{os.getpid()}.log"
        self.starts = 0
        self._child: Child | None = None
        self._scratch: Scratch | None = None  # where the command puts its pictures
        self._deaths = 0  # since the last picture

    def begin_unit(self) -> None: ...

    def encode(self, captions: Sequence[str]) -> Mapping[str, Embedded]:
        """The captions as they are: the command reads them itself."""
        return {caption: Embedded(caption, {}) for caption in captions}

    def paint(self, keys: Sequence[str], texts: Sequence[Embedded], seeds: Sequence[int]) -> list[Picture]:
        """A picture of each text. StageBroken if the command does not stay alive, or draws what was not asked for; Killed if somebody
        else ends it again and again."""
        todo = {i: self._request(i, *r) for i, r in enumerate(zip(keys, (t.caption for t in texts), seeds, strict=True))}
        pictures: dict[int, Picture] = {}
        fatal = dict.fromkeys(todo, 0)
        while todo:
            try:
                self._exchange(todo, pictures)
            except Gone as e:
                at_work, self._child = self._child is not None, None
                if isinstance(e.nobodys, StoreError):
                    raise e.nobodys from e
                self._deaths += 1
                if self._deaths > self.patience.restarts:
                    msg = f"model.command: {self.words[0]} failed {self._deaths} times without a picture (model.restarts)"
                    raise Killed(f"{msg}: {e.nobodys}") if e.nobodys else StageBroken(f"{msg}: {e}") from e
                if at_work and not e.nobodys:
                    first = next(iter(todo))  # the one that it was at
                    fatal[first] += 1
                    if fatal[first] >= FATAL:
                        why = str(e).split("\n", 1)[0]
                        pictures[first] = Picture(reason=f"the command failed on it {FATAL} times: {why}")
                        del todo[first]
        return [pictures[i] for i in range(len(keys))]

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None

    def _request(self, number: int, key: str, prompt: str, seed: int) -> dict:
        config = self.config
        return {
            "id": number,
            "key": key,
            "prompt": prompt,
            "negative_prompt": config.negative_prompt,
            "seed": seed,
            "width": config.width,
            "height": config.height,
            "steps": config.steps,
            "guidance_scale": config.guidance_scale,
        }

    def _exchange(self, todo: dict[int, dict], pictures: dict[int, Picture]) -> None:
        """Ask for all of `todo`; what is answered moves to `made`."""
        child = self._running()
        for number, request in todo.items():
            child.send(json.dumps(request | {"out": str(self._scratch.path / f"{number}.png")}).encode())
        while todo:
            limit = self.patience.timeout
            answer = self._answer(child, time.monotonic() + limit, f"no answer within {limit:g} s (model.timeout)")
            number = answer.get("id")
            if isinstance(number, bool) or not isinstance(number, int) or number not in todo:
                raise child.gone(f"an answer to no request: {json.dumps(answer)[:200]}")
            pictures[number] = self._picture(number, answer)
            del todo[number]
            self._deaths = 0

    def _running(self) -> Child:
        if self._child is None:
            if self._scratch is None:
                self._scratch = Scratch()
            child = Child(self.words, self.log, self._scratch.path, self.keep)
            self.starts += 1
            limit = self.patience.start_timeout
            hello = self._answer(child, time.monotonic() + limit, f"no hello within {limit:g} s (model.start_timeout)")
            if hello.get("hello") != HELLO or hello.get("version") != VERSION:
                child.close()
                expected = json.dumps({"hello": HELLO, "version": VERSION})
                raise InputError(f"model.command: its hello was {json.dumps(hello)[:200]}, expected {expected}; see docs/external.md")
            self._child = child
        return self._child

    def _answer(self, child: Child, deadline: float, late: str) -> dict:
        """The next line that is a JSON object; others go to the log."""
        for _ in range(NOISE):
            line = child.line(deadline, late)
            with contextlib.suppress(InputError):
                answer = foreign.parse(line, "answer")
                if isinstance(answer, dict):
                    return answer
            with open(self.log, "ab", opener=adding) as log:
                log.write(redacted(line[:1000].decode(errors="backslashreplace")).encode() + b"\n")
        raise child.gone(f"{NOISE} lines that are no protocol")

    def _picture(self, number: int, answer: Mapping) -> Picture:
        """The file of an answer, taken out of the folder. StoreError for whatever is wrong with it while that folder is full."""
        from PIL import Image

        if "error" in answer:
            self._check_room()
            said = redacted(" ".join(str(answer["error"])[:4096].split()))  # of a sample: it is stored with the others
            return Picture(reason=f"the command refused: {said[:500]}")
        named = answer.get("image", f"{number}.png")
        folder = self._scratch.path
        file = folder / named if isinstance(named, str) and "\0" not in named else folder
        if not file.resolve().is_relative_to(folder.resolve()) or not file.is_file():
            raise self._broken(f"its answer names {named!r}, which is no file in the folder of `out`")
        data, wanted = foreign.read(file, MAX_BYTES), (self.config.width, self.config.height)
        file.unlink()
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if (size := image.size) == wanted:
                return Picture(np.asarray(image.convert("RGB")))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
            raise self._broken(f"{named}: not a whole picture in one of {', '.join(FORMATS)} ({e})") from e
        drew = f"it drew {size[0]}x{size[1]} pixels where {wanted[0]}x{wanted[1]} were asked for"
        raise self._broken(f"{drew}; set images.width={size[0]} images.height={size[1]}, or resize in the command")

    def _check_room(self) -> None:
        """StoreError if the command cannot have written a picture for want of room."""
        if full := no_room(self._scratch.path):
            raise StoreError(f"{full}: the command of model.command finds no room for its pictures; set TMPDIR to another place")

    def _broken(self, why: str) -> StageBroken:
        self._check_room()
        self.close()
        return StageBroken(f"model.command: {self.words[0]}: {why}")
