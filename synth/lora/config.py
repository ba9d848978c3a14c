"""Keys of LoRAs that a run trains, and what their stage stores."""

from dataclasses import dataclass

from synth.features.config import FOLDER, ClassList
from synth.images.config import ModelConfig
from synth.keys import key, later, plan_key

CLASS, ALL = "class", "all"
ERROR, PLAIN = "error", "plain"


@dataclass(frozen=True)
class LoraClass:
    """A class that is drawn, and what the real pictures call it."""

    index: int  # official
    name: str
    said: str  # in the prompt
    label: int  # of its pictures in the source
    pictures: int  # that may be used, as far as their files tell without being decoded


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """kind "lora": a unit a LoRA, a slot of it `save_every` steps. Pictures: of the stage in role "images", or of the listing of input
    "source". inputs "model..": as of an images stage."""

    real: str = plan_key(f"a few real pictures of each class, on which LoRAs of the model are trained: {FOLDER}", null="none are trained")
    scope: str = key("class: a LoRA for each class, of its pictures | all: one for all classes", choices=(CLASS, ALL))
    per_class: int = key("real pictures of each class that are trained on, drawn by seed", low=1)
    missing: str = plan_key(
        "what a class without a real picture is: error | plain: drawn by the model alone, or by the one LoRA of all", choices=(ERROR, PLAIN)
    )
    weight: float = plan_key("that a LoRA is added with when pictures are drawn", low=0)
    seed: int = key("integer; the choice of pictures, the first weights and all noise of the training come from it")
    prompt: str = key("caption of every real picture; {class}: name of its class")
    size: int = key("pixels of the sides that pictures are cut to", low=8, null="the smaller one of images.height and images.width")
    mirror: bool = key("mirror half of the pictures, drawn by seed")
    rank: int = key("of each matrix of a LoRA", low=1, high=1024)
    steps: int = key("training steps of a LoRA", low=1)
    batch_size: int = key("pictures of a step", low=1)
    learning_rate: float = key("of AdamW, the same in all steps", low=0)
    dtype: str = key(
        "of the weights that are not trained, on a GPU; auto: bfloat16 where it has that, else float32",
        choices=("auto", "bfloat16", "float32"),
    )
    checkpointing: bool = key("keep fewer activations and compute them twice: less memory, about a third slower")
    save_every: int = plan_key("steps after which what a killed job has trained is kept", low=1)
    legs: tuple[int, ...] = later(())  # steps of each slot of a unit
    classes: tuple[LoraClass, ...] = later(())  # those with a picture, in the order of their units where scope is class
    model: ModelConfig = later()
    pictures: int = later(0)  # of the source, whatever their class
    dataset: ClassList = later(factory=ClassList)  # of a listed source
    source_classes: tuple[int, ...] = later(())  # as of features
    out: str = ""
