"""Sample configs of stories and their pages."""

from dataclasses import dataclass

from synth.captions.config import DatasetConfig
from synth.images.config import DrawingConfig


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

    dataset: DatasetConfig = DatasetConfig("", (), 0)  # a class a style
    styles: tuple[StoryStyle, ...] = ()
    prompts: tuple[int, ...] = ()  # of each chapter
    progressive: bool = True
    interleave: bool = True
    cycle_styles: bool = False
    carry: str = "chapter"  # chapter | book: how far last pictures and turned styles go
    rows: int = 16  # pictures a call of the model, at most


@dataclass(frozen=True)
class StoryPagesConfig:
    """kind "story_pages": upstream role "images": a story stage. A slot and a unit is a chapter."""

    out: str = ""
    title: str = ""
    individual: bool = True  # a file a picture
    grid: str = "chapter"  # chapter | cumulative | none
    animation: str = "webp"  # webp | gif | none
    frame_ms: int = 700
