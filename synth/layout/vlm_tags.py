"""Taggers `vlm` and `served`: the names in the list of objects that Qwen2.5-VL, Qwen3-VL or a server writes when it is asked for one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synth import foreign, numerics
from synth.errors import InputError
from synth.features.model_folder import ModelFolder
from synth.images.pipeline import out_of_memory
from synth.layout.asked import Heard
from synth.layout.caption.base import BoxCaptioner, Settings
from synth.layout.caption.qwen_vl import Qwen3Vl, Qwen25Vl
from synth.layout.caption.served import served_captioner
from synth.layout.config import TaggerConfig
from synth.layout.lists import PREFIX, Named, names_in
from synth.layout.records import Record
from synth.store.folder import StageFolder

FIX = "give a folder of Qwen2.5-VL or Qwen3-VL in transformers' layout, such as Qwen/Qwen3-VL-2B-Instruct"
TOO_LARGE = "a call of the tagger's model does not fit on the device: lower tagger.{}.rows"


class _Asking:
    """What both share: what is heard becomes names, and what is none is counted."""

    kind: str

    def __init__(self, model: BoxCaptioner, config: TaggerConfig, folder: StageFolder):
        self._model, self._max_words = model, config.max_words
        alone = len(folder.spec.config["taggers"]) == 1

        def gave(record: Record) -> bool:
            """Whether its tags are of this tagger: beside others, where it left nothing out."""
            return bool(record.tags) and (alone or not any(why.startswith(PREFIX) for why in record.dropped))

        self._heard = Heard(folder, f"tagger.{self.kind}", "pictures", "tag", gave)

    def prepare(self, image: Any) -> Any:
        return self._model.prepare(image)

    def tags(self, records: Sequence[Record], ready: Sequence[Any]) -> list[Named | None]:
        with out_of_memory(TOO_LARGE.format(self.kind)):
            said = self._model.answers(ready)
        named = [None if one is None else names_in(one, self._max_words) for one in said]
        for one, names in zip(said, named, strict=True):
            if one is not None and names is not None:
                reason = "" if names.tags else max(names.dropped, key=lambda why: (names.dropped[why], why))
                self._heard.note(reason.removeprefix(PREFIX), (), one.text, good=bool(names.tags))
        self._heard.judge()
        return named

    def close(self) -> None:
        self._model.close()

    def usage(self) -> Mapping[str, Any]:
        return dict(self._model.usage()) | self._heard.usage()


class VlmTagger(_Asking):
    kind = "vlm"

    def __init__(self, config: TaggerConfig, folder: StageFolder):
        settings = numerics.apply_to_text(folder.spec.numerics)
        path = folder.input_path(config.role)
        model = vlm_class(path)(check_vlm(path), Settings(config.prompt, config.max_tokens, config.pixels, config.rows))
        model.open(settings["dtype"])
        super().__init__(model, config, folder)


class ServedTagger(_Asking):
    kind = "served"

    def __init__(self, config: TaggerConfig, folder: StageFolder):
        server = served_captioner(folder, config, config.role, f"tagger.{self.kind}", config.pixels)
        try:
            server.open("")
        except BaseException:
            server.close()  # nobody else has it
            raise
        super().__init__(server, config, folder)


def vlm_class(path: Path) -> type[Qwen25Vl]:
    """The class of the model in a folder, by what its config says; InputError for another one."""
    from synth.weights import read_json

    kind = read_json(path / "config.json", FIX).get("model_type")
    classes = {name: cls for cls in (Qwen25Vl, Qwen3Vl) for name in cls.types}
    if not isinstance(kind, str) or kind not in classes:
        raise InputError(f"{path / 'config.json'}: is a model of type {foreign.seen(kind)}; {FIX}")
    return classes[kind]


def check_vlm(path: Path) -> ModelFolder:
    """InputError unless a folder looks like a whole model of these classes. Imports neither torch nor transformers."""
    cls = vlm_class(path)
    folder = cls.check(path)
    cls(folder, Settings())  # which judges what its config says of pictures
    return folder
