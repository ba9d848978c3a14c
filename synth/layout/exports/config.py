"""Keys of exports of layout labels."""

from dataclasses import dataclass

from synth.export.config import ExportConfig, ShardedConfig
from synth.keys import key, plan_key
from synth.layout.objects.config import EMBEDDINGS
from synth.store.spec import StageSpec


@dataclass(frozen=True, kw_only=True)
class LabelFilesConfig(ExportConfig):
    """A slot is a slot of the labels, a unit covers one of theirs: a killed export goes on where it was."""

    pictures: str = key("copy: the pictures go along | none: readers take them from where they are", choices=("copy", "none"))

    has_card = True

    def units(self, images: StageSpec) -> tuple[int, int]:
        return images.slots, images.unit_size


@dataclass(frozen=True, kw_only=True)
class LayoutLabelsConfig(LabelFilesConfig):
    names: str = key(
        "number: pictures are called by their slot, whatever they were"
        " | stem: as they are, which must be img2dataset's 00000/000000012.jpg",
        choices=("number", "stem"),
    )
    image: bool = key("true: each file holds its picture in base64, as InstanceDiffusion's loader wants it")
    dataset_name: str = key("what the field of this name says")
    embeddings: bool = plan_key("true: each object has its text_embedding_before and blip_clip_embeddings, by the model in features.model")

    @property
    def reads(self) -> str:
        return EMBEDDINGS if self.embeddings else ""


@dataclass(frozen=True, kw_only=True)
class CocoConfig(LabelFilesConfig):
    segmentations: bool = key("true: masks as RLE, where there are any")


@dataclass(frozen=True, kw_only=True)
class SacapConfig(LabelFilesConfig): ...


@dataclass(frozen=True, kw_only=True)
class LayoutSamConfig(ShardedConfig): ...


@dataclass(frozen=True, kw_only=True)
class LabelsPageConfig(ExportConfig):
    max_images: int = key("pictures on the page, spread evenly over all", low=1)
    sheet: int = key("pictures on the contact sheet", low=1)
