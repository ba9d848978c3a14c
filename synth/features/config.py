"""Keys of features, and what their stage stores."""

from dataclasses import dataclass

from synth.captions.config import ClassEntry
from synth.keys import later, plan_key

KIND = "features"
FOLDER = "a folder of pictures by class, WebDataset tars, Parquet or HDF5 files, or a stage of pictures"


@dataclass(frozen=True, kw_only=True)
class FeaturesKeys:
    """How features of pictures are computed; those of one set of pictures are shared by all who read them."""

    model: str = plan_key(
        "folder of a CLIP, SigLIP or DINOv2 model of transformers, such as openai/clip-vit-base-patch32",
        null="where prefetch.py put repo; without repo the small CLIP that ships here, for its own pictures",
    )
    repo: str = plan_key("where it comes from", null="not known")
    revision: str = plan_key("commit of it", null="main")
    templates: tuple[str, ...] = plan_key("texts of a class, {} is its name; the features of several are averaged")
    batch_size: int = plan_key("pictures a call of the model", low=1)
    unit_size: int = plan_key("pictures a unit, of perceptual hashes too", low=1)


@dataclass(frozen=True, kw_only=True)
class ClassList:
    """The classes of a listed source, as other stages have those of a dataset."""

    classes: tuple[ClassEntry, ...] = later(())


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """kind "features": a slot a picture, then one a class, for its texts. input "model": the encoder.

    Pictures: of the stage in role "images", or of the listing of input "source", whose classes stand here.
    """

    id: str = later()
    templates: tuple[str, ...] = later(())  # texts of a class; their features are averaged; (): the model has no text tower
    texts: int = later(0)  # classes whose texts have a slot
    dataset: ClassList = later(factory=ClassList)
    source_classes: tuple[int, ...] = later(())  # official index of each class number of the listing; (): pictures without classes
