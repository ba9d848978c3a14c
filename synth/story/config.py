"""Sample configs of stories and their pages."""

from dataclasses import dataclass

from synth.captions.config import DatasetConfig
from synth.export.config import ExportConfig
from synth.images.config import DrawingConfig
from synth.keys import key, later
from synth.store.spec import StageSpec


@dataclass(frozen=True)
class StoryStyle:
    """A lane of a story's chains. Its tag is the name of its class in the stage's dataset."""

    text: str
    weight: float  # 0..1, share of the steps that is run from the lane's last picture


@dataclass(frozen=True)
class StoryConfig(DrawingConfig):
    """kind "story": a picture for each prompt and style. input "source": the text, whose prompts lie in the stage's folder.

    A unit is a chapter (all of the book, where anything passes from chapter to chapter), a batch one prompt in all styles.
    Stored without loss: chains go on from what is stored.
    """

    dataset: DatasetConfig = DatasetConfig(name="", classes=(), n_classes=0)  # a class a style
    styles: tuple[StoryStyle, ...] = ()
    prompts: tuple[int, ...] = ()  # of each chapter
    progressive: bool = True
    interleave: bool = True
    cycle_styles: bool = False
    carry: str = "chapter"  # chapter | book: how far last pictures and turned styles go
    rows: int = 16  # pictures a call of the model, at most


@dataclass(frozen=True, kw_only=True)
class StoryPagesConfig(ExportConfig):
    """A slot and a unit is a chapter."""

    grid: str = key(
        "a grid a style and chapter: chapter: of its pictures | cumulative: of all up to its end, as the original does | none",
        choices=("chapter", "cumulative", "none"),
    )
    animation: str = key("an animation a style and chapter: webp | gif | none", choices=("webp", "gif", "none"))
    frame_ms: int = key("milliseconds a picture of an animation", low=20)
    title: str = later("")
    individual: bool = later(True)  # a file a picture: story.generation_config.save_individual

    def units(self, images: StageSpec) -> tuple[int, int]:
        return len(images.config["prompts"]), 1
