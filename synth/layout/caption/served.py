"""A server that this worker starts on its own device and asks about pictures, by the engine that captions of class names are asked with
(synth.captions.remote): its answers are kept in answers/ of the stage's folder and never computed twice.
"""

import base64
import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synth import keys
from synth.captions.config import CaptionerConfig
from synth.captions.engines import Request
from synth.captions.remote.served import ServedEngine
from synth.captions.remote.settings import Endpoint
from synth.keys import WrongKey
from synth.layout.answers import Said
from synth.layout.caption.base import BoxCaptioner
from synth.layout.caption.qwen_vl import of_area
from synth.store.folder import StageFolder

FACTOR = 28  # pixels: sides are multiples of it, so that thin crops become strips and no lines, which servers refuse
ROLE = "model"  # of the engine's input
# keys of the captioner by the names that they have here
NAMES = {"max_gen_len": "max_tokens", "max_batch_size": "rows", "engine": "kind"}
_KEY = re.compile(r"\bcaptioner\.(\w+)")


class ServedCaptioner(BoxCaptioner):
    chat = True

    def __init__(self, engine: ServedEngine, prompt: str, pixels: int, group: str):
        """group: of the keys, for messages."""
        self._engine, self._prompt, self._pixels, self._group = engine, prompt, pixels, group

    def open(self, dtype: str) -> None:
        """Start the server; what it computes with is its command's matter."""
        with told_as(self._group):
            self._engine.start()

    def prepare(self, crop) -> str:
        """PIL image -> the data URL of a PNG."""
        from PIL import Image

        size = of_area(*crop.size, self._pixels, FACTOR)
        return data_url(crop.convert("RGB").resize(size, Image.Resampling.BICUBIC))

    def answers(self, crops: Sequence[str]) -> list[Said | None]:
        requests = [asked(self._prompt, crop) for crop in crops]
        with told_as(self._group):
            replies = self._engine.generate(requests) if requests else []
        return [Said(reply.text, reply.ended, reply.error) for reply in replies]

    def usage(self) -> Mapping[str, float]:
        return self._engine.usage()

    def close(self) -> None:
        self._engine.close()


def served_captioner(folder: StageFolder, config: Any, role: str, group: str, pixels: int) -> ServedCaptioner:
    """The server of a stage, judged, not started. config: with the keys of `served`; role: of the input that it loads."""
    captioner = keys.build(CaptionerConfig, config.server, f"{group}.server")
    endpoint = Endpoint.of(folder.spec.settings, str(folder.path / "inputs.json"))
    model = str(folder.input_path(role)) if role in folder.spec.inputs else captioner.model
    engine = ServedEngine(captioner, endpoint, folder.path, model)
    engine.plain = asked(config.prompt, blank())
    with told_as(group):
        engine.check()
    return ServedCaptioner(engine, config.prompt, pixels, group)


def asked(prompt: str, picture: str) -> Request:
    """What a server is asked about a picture, a data URL."""
    return Request(prompt, (("user", prompt),), pictures=(picture,))


def data_url(image: Any) -> str:
    """Of a PIL image, as a PNG: it shows the pixels that a model here would see."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def blank() -> str:
    """A picture that any server takes which takes pictures."""
    from PIL import Image

    return data_url(Image.new("RGB", (4 * FACTOR, 4 * FACTOR), (128, 128, 128)))


@contextlib.contextmanager
def told_as(group: str) -> Iterator[None]:
    """Inside, what an error says of keys of the captioner is said of this group, whose settings the engine has."""
    try:
        yield
    except WrongKey as e:
        raise (WrongKey(NAMES.get(e.key, e.key), e.value, e.why, e.fix, group) if e.group == "captioner" else e) from e.__cause__
    except Exception as e:
        e.args = tuple(_renamed(arg, group) if isinstance(arg, str) else arg for arg in e.args)
        raise


def _renamed(text: str, group: str) -> str:
    """
    >>> _renamed("captioner.max_batch_size and box_captioner.rows", "tagger.served")
    'tagger.served.rows and box_captioner.rows'
    """
    return _KEY.sub(lambda match: f"{group}.{NAMES.get(match[1], match[1])}", text)
