"""Ways to name what is in a picture, by the kind of synth.layout.config.TaggerConfig. A tagger is made when its stage is opened."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from synth.layout.config import CAPTION, FILE, FLORENCE2, SERVED, VLM, VOCABULARY, TaggerConfig
from synth.layout.lists import Named
from synth.layout.phrases import noun_phrases
from synth.layout.records import Record
from synth.layout.tag_files import read_tags, tags_of
from synth.store.folder import StageFolder


class Tagger(Protocol):
    def prepare(self, image: Any) -> Any:
        """What it takes of a picture (PIL, RGB); in a thread beside the device."""

    def tags(self, records: Sequence[Record], ready: Sequence[Any]) -> Sequence[Named | None]:
        """The tags of each picture, the best first; None: the model's numbers for it are not finite. ready: what `prepare` made of each."""

    def close(self) -> None:
        """Give up what `tagger_of` loaded or started."""

    def usage(self) -> Mapping[str, Any]:
        """What this process spent outside so far, and what it heard that it did not take, for the worker's events."""


class Quiet:
    """A tagger that reads or loads, and asks nobody."""

    def close(self) -> None: ...

    def usage(self) -> dict[str, Any]:
        return {}


class CaptionTagger(Quiet):
    """The noun phrases of the alt text."""

    def __init__(self, config: TaggerConfig, folder: StageFolder):
        self.max_words = config.max_words

    def prepare(self, image: Any) -> None:
        return None

    def tags(self, records: Sequence[Record], ready: Sequence[Any]) -> list[Named]:
        return [Named(tuple(noun_phrases(record.caption, self.max_words))) for record in records]


class FileTagger(Quiet):
    """Those of a file."""

    def __init__(self, config: TaggerConfig, folder: StageFolder):
        self._by_picture = read_tags(folder.input_path(config.role))

    def prepare(self, image: Any) -> None:
        return None

    def tags(self, records: Sequence[Record], ready: Sequence[Any]) -> list[Named]:
        return [Named(tuple(tags_of(record.image, self._by_picture))) for record in records]


_KINDS: Mapping[str, str] = {
    CAPTION: f"{__name__}:CaptionTagger",
    FILE: f"{__name__}:FileTagger",
    FLORENCE2: "synth.layout.florence2_tags:Florence2Tagger",
    SERVED: "synth.layout.vlm_tags:ServedTagger",
    VLM: "synth.layout.vlm_tags:VlmTagger",
    VOCABULARY: "synth.layout.vocabulary:VocabularyTagger",
}


def tagger_of(config: TaggerConfig, folder: StageFolder) -> Tagger:
    """The tagger of a config, with what it needs loaded."""
    module, name = _KINDS[config.kind].split(":")
    made: Callable[[TaggerConfig, StageFolder], Tagger] = getattr(importlib.import_module(module), name)
    return made(config, folder)
