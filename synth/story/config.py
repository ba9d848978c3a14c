"""Keys of stories and their pages."""

from dataclasses import dataclass
from typing import Any

from synth.captions.config import DatasetConfig
from synth.export.config import ExportConfig
from synth.images.config import DrawingConfig
from synth.keys import key, later, plan_key
from synth.store.spec import StageSpec

OF_THE_ORIGINAL = "of the original script; ignored"


@dataclass(frozen=True, kw_only=True)
class PromptKeys:
    """story.prompt_config: the text, and how it falls into chapters of prompts."""

    source: str = plan_key("text file, UTF-8", null="not set; there must be one")
    key: str = plan_key("name of the folder below runs_dir")
    prompt_override: str = plan_key("text in the place of every prompt; the file still sets their number", null="none")
    chapter_split_regex: str = plan_key("what is before its first match is dropped", null="all of the text is one chapter")
    prompt_split_regex: str = plan_key("within a chapter; what is before its first match is dropped, empty prompts are skipped")
    max_chapters: int = plan_key("chapters from the first on", low=1, null="all")
    max_entries_per_chapter: int = plan_key("prompts a chapter, without empty ones", low=1, null="all")


@dataclass(frozen=True, kw_only=True)
class GenerationKeys:
    """story.generation_config."""

    preview: bool = plan_key("growing.html and preview.png in the stage's folder as pictures are made; on a terminal a window shows them")
    preview_max_windows: int = plan_key("newest pictures that are shown at once", low=1)
    save_individual: bool = plan_key("story_pages: a file a picture")
    progressive: bool = plan_key("each picture starts from its style's last one, with strength = weight", null="as progresive, else true")
    interleave: bool = plan_key("the last pictures move to the next style after each prompt")
    cycle_styles: bool = plan_key("so do the style texts")
    guidance_scale: float = plan_key("weight of the prompt", low=0, null="the model's own")
    eta: float = plan_key("fresh noise a step; only DDIM-like schedulers read it", low=0, high=1)
    num_inference_steps: int = plan_key("steps of a picture from noise", low=1, null="the model's own")
    progresive: bool = plan_key("spelling of the original script", null="as progressive")
    preview_stop: Any = plan_key(OF_THE_ORIGINAL, given=Any, null="not given")


@dataclass(frozen=True, kw_only=True)
class StyleKeys:
    """An item of story.style_configs."""

    style: str = plan_key("text behind each prompt")
    file_tag: str = plan_key("folder")
    weight: float = plan_key("0..1, share of the steps run from a last picture", low=0, high=1)
    last_image: Any = plan_key(OF_THE_ORIGINAL, given=Any, null="not given")
    images: Any = plan_key(OF_THE_ORIGINAL, given=Any, null="not given")


@dataclass(frozen=True, kw_only=True)
class StoryKeys:
    """The group `story`, nested as the original script has it. What it has in common with images follows images.*"""

    seed: int = plan_key("integer; with chapter, prompt and style it fixes all noise of a picture")
    carry: str = plan_key(
        "how far last pictures and turned styles go: chapter | book: from chapter to chapter, one after the other",
        choices=("chapter", "book"),
    )
    prompt_config: PromptKeys = plan_key("the text")
    generation_config: GenerationKeys = plan_key("how pictures are drawn")
    style_configs: tuple[StyleKeys, ...] = plan_key("styles in which each prompt is drawn")
    style_configs_file: str = plan_key(
        "JSON file with a list like style_configs, in its place: for texts with commas and for sweeps over sets of styles", null="none"
    )


@dataclass(frozen=True)
class StoryStyle:
    """A lane of a story's chains. Its tag is the name of its class in the stage's dataset."""

    text: str
    weight: float  # 0..1, share of the steps that is run from the lane's last picture


@dataclass(frozen=True, kw_only=True)
class StoryConfig(DrawingConfig):
    """kind "story": a picture for each prompt and style. input "source": the text, whose prompts lie in the stage's folder.

    A unit is a chapter (all of the book, where anything passes from chapter to chapter), a batch one prompt in all styles.
    Stored without loss: chains go on from what is stored.
    """

    dataset: DatasetConfig = later()  # a class a style
    styles: tuple[StoryStyle, ...] = later(())
    prompts: tuple[int, ...] = later(())  # of each chapter
    progressive: bool = later()
    interleave: bool = later()
    cycle_styles: bool = later()
    carry: str = later()
    rows: int = later()  # pictures a call of the model, at most


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
