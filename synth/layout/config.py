"""Keys of layout labels: where pictures and alt texts come from, and the models of the chain, an option of a group each.

A group of a model (tagger, detector, ..) is one class; `of` says which of its options have a key.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from synth.keys import key, later, plan_key

TOY = "TOY MODEL"  # how the notes of stages begin whose model ships here and met other pictures
LAYOUTS = ("auto", "files", "webdataset", "parquet", "hdf5", "meta", "stage")
VOCABULARY, CAPTION, FILE, VLM, SERVED = "vocabulary", "caption", "file", "vlm", "served"
MM_GROUNDING_DINO, GROUNDING_DINO, OWLV2, FLORENCE2, SAM3 = "mm_grounding_dino", "grounding_dino", "owlv2", "florence2", "sam3"
TAGGERS, MODELS = (VOCABULARY, CAPTION, FLORENCE2, VLM, SERVED, FILE), (VOCABULARY, FLORENCE2, VLM)
ASKED = (VLM, SERVED)  # taggers that are asked for a list of objects
DETECTORS = (MM_GROUNDING_DINO, GROUNDING_DINO, OWLV2, FLORENCE2, SAM3)
WITH_MASKS = (SAM3,)  # detectors that find the masks of their boxes as well
NONE, SAM, SAM_HQ, SAM2 = "none", "sam", "sam_hq", "sam2"
SEGMENTERS = (SAM, SAM_HQ, SAM2)
BLIP2, QWEN2_5_VL, QWEN3_VL = "blip2", "qwen2_5_vl", "qwen3_vl"
BOX_MODELS = (FLORENCE2, BLIP2, QWEN2_5_VL, QWEN3_VL)  # captioners that a worker loads
BOX_CAPTIONERS = (*BOX_MODELS, SERVED)
CHATS = (QWEN2_5_VL, QWEN3_VL, SERVED)  # those that answer a question


@dataclass(frozen=True, kw_only=True)
class LayoutConfig:
    """Group `layout`: what all stages of the chain have in common."""

    source: str = plan_key(
        "pictures with alt texts: img2dataset's output, a folder of pictures, WebDataset tars, Parquet or HDF5 files, a stage of pictures, "
        "or meta files (JSON)",
        null="must be given",
    )
    layout: str = plan_key(
        "auto | files: pictures with .txt or .json beside, or metadata.jsonl | webdataset: tars | parquet | hdf5"
        " | meta: JSON lists of image and caption | stage",
        choices=LAYOUTS,
    )
    image_folder: str = plan_key(
        "folder where pictures of meta files lie, by the last two parts of their paths", null="where the meta files say"
    )
    unit_size: int = plan_key("pictures a unit, of every stage of the chain", low=1)
    batch_size: int = plan_key("pictures whose tags are computed together", low=1)
    max_tags: int = plan_key("tags a picture, the first ones", low=1, high=10_000, null="all")


@dataclass(frozen=True, kw_only=True)
class ServerKeys:
    """Keys of options `served`: a server of an OpenAI-compatible protocol that takes pictures, which each worker starts on its own GPU."""

    model: str = plan_key("name that the server finds its model by, instead of path", null="path says", of=(SERVED,))
    command: tuple[str, ...] = plan_key(
        "what starts the server; may hold {model}, {host}, {port}, {max_seq_len}, {max_gen_len}, {max_batch_size} and {context}, which is "
        "max_seq_len times rows",
        of=(SERVED,),
    )
    flags: tuple[str, ...] = plan_key(
        "more words of the command, such as change its speed alone: they are not in the fingerprint", null="none", of=(SERVED,)
    )
    pass_env: tuple[str, ...] = plan_key(
        "names of variables with secrets that it is given; all others with a secret name are kept from it", null="none", of=(SERVED,)
    )
    health: str = plan_key("path that answers 200 once requests may come", of=(SERVED,))
    start_timeout: float = plan_key("seconds until then; a first start compiles for minutes", of=(SERVED,))
    restarts: int = plan_key("starts after the first, should the server die", low=0, of=(SERVED,))
    body: Mapping[str, Any] = plan_key(
        "more fields of each request, for example {top_k: 50}; null takes one away", given=Any, null="none", of=(SERVED,)
    )
    max_seq_len: int = plan_key("tokens of a request with its picture and of the answer", low=8, of=(SERVED,))
    timeout: float = plan_key("seconds for one answer", of=(SERVED,))
    retries: int = plan_key("tries after the first on 408, 409, 425, 429, 5xx and lost connections", low=0, of=(SERVED,))
    server: Mapping[str, Any] = later(factory=dict, sparse=True)  # what its answers depend on: a CaptionerConfig, as stage.json has it


@dataclass(frozen=True, kw_only=True)
class TaggerConfig(ServerKeys):
    """A way to name what is in a picture. Its input, a model's folder or a file, is called as `role` says."""

    option: ClassVar[str] = "kind"

    kind: str = key(
        "vocabulary: CLIP or SigLIP against a list of words | caption: noun phrases of the alt text | florence2: what it detects"
        " | vlm: a list that Qwen2.5-VL or Qwen3-VL is asked for | served: one that a server is asked for | file",
        choices=TAGGERS,
    )
    path: str = plan_key(
        "local folder of the model in transformers' layout; its contents are in the fingerprint",
        null="what was fetched of repo, or model says",
        of=(*MODELS, SERVED),
    )
    repo: str = plan_key("of launch/prefetch.py: the repository to fetch it from, ORG/NAME", null="none", of=MODELS)
    revision: str = plan_key("of launch/prefetch.py: commit, tag or branch", null="main", of=MODELS)
    vocabulary: str = plan_key("text file, a word or phrase a line", of=(VOCABULARY,))
    words: tuple[str, ...] = later(())  # of that file: the list is part of what the stage is
    templates: tuple[str, ...] = key("texts of a word, which stands for {}; their features are averaged", of=(VOCABULARY,), unread=())
    top: int = key("words a picture at most, the likeliest first", low=1, high=10_000, of=(VOCABULARY,), unread=0)
    min_probability: float = key(
        "of a word, 0..1: of CLIP among all words, of SigLIP by itself", low=0, high=1, of=(VOCABULARY,), unread=0.0
    )
    max_words: int = key(
        "words of a phrase; of caption the last ones are kept, of a list's names a longer one is left out and counted",
        low=1, high=100, of=(CAPTION, *ASKED), unread=0,
    )  # fmt: skip
    prompt: str | None = key("what the model is asked about a picture", sparse=True, of=ASKED, unread=None)
    max_tokens: int | None = key("tokens of an answer; a name that is cut off is left out", low=1, sparse=True, of=ASKED, unread=None)
    pixels: int | None = key("pixels of a picture as the model sees it, whatever its shape", low=784, sparse=True, of=ASKED, unread=None)
    stop_when_empty: int = plan_key(
        "a worker stops (exit code 65) when so many pictures were asked about and none has a tag of it; 0: never", low=0, of=ASKED
    )
    rows: int | None = key("pictures a call of the model, or requests in flight", low=1, sparse=True, of=ASKED, unread=None)
    file: str = plan_key(
        "tags by picture: JSON {image: [tag, ..]}, JSONL with image and tags, or text, image TAB tag, tag", null="must be given", of=(FILE,)
    )
    role: str = later("")


@dataclass(frozen=True, kw_only=True)
class TagsConfig:
    """kind "tags": a record a picture, with its alt text and tags. The source is input "source", or a stage in role "images"."""

    taggers: tuple[TaggerConfig, ...] = later(())  # their tags are united, in this order
    max_tags: int = later(0)  # 0: all


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """The model that finds the tags of a picture. input "detector": its folder."""

    option: ClassVar[str] = "kind"

    kind: str = key(f"class of the model: {' | '.join(DETECTORS)}", choices=DETECTORS)
    path: str = plan_key(
        "local folder of the model in transformers' layout; its contents are in the fingerprint", null="what was fetched of repo"
    )
    repo: str = plan_key("of launch/prefetch.py: the repository to fetch it from, ORG/NAME", null="none")
    revision: str = plan_key("of launch/prefetch.py: commit, tag or branch", null="main")
    box_threshold: float = key("score, 0..1, that a box must be above", low=0, high=1)
    text_threshold: float = key(
        "score, 0..1, from which a word of a tag counts when a box's tag is chosen",
        low=0, high=1, of=(MM_GROUNDING_DINO, GROUNDING_DINO), unread=0.0,
    )  # fmt: skip
    template: str = key("text of a tag, which stands for {}")
    nms: float = key("overlap, 0..1, beyond which the weaker of two boxes goes, whatever their tags; 1: none goes", low=0, high=1)
    min_box: int = key("pixels; a box of fewer than its square goes", low=1)
    max_boxes: int = key("boxes a picture, the best ones", low=1, null="all")
    rows: int = key("pictures of one size, or passes over their tags, a call of the model", low=1)
    batch_size: int = plan_key("pictures that are sorted by size together", low=1)


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """The model that gives each box a mask. input "segmenter": its folder."""

    option: ClassVar[str] = "kind"

    kind: str = key(f"class of the model: {' | '.join(SEGMENTERS)} | none: boxes get no masks", choices=(*SEGMENTERS, NONE))
    path: str = plan_key(
        "local folder of the model in transformers' layout; its contents are in the fingerprint",
        null="what was fetched of repo",
        of=SEGMENTERS,
    )
    repo: str = plan_key("of launch/prefetch.py: the repository to fetch it from, ORG/NAME", null="none", of=SEGMENTERS)
    revision: str = plan_key("of launch/prefetch.py: commit, tag or branch", null="main", of=SEGMENTERS)
    rows: int = key("pictures a call of the image encoder", low=1, of=SEGMENTERS, unread=1)
    boxes: int = key("boxes of a picture a call of the mask decoder", low=1, of=SEGMENTERS, unread=1)
    batch_size: int = plan_key("pictures whose masks are computed together", low=1, of=SEGMENTERS)


@dataclass(frozen=True, kw_only=True)
class BoxesConfig:
    """kind "boxes": the records of the stage before, with a box for each tag that is found."""

    detector: DetectorConfig = later()  # max_boxes 0: all


@dataclass(frozen=True, kw_only=True)
class MasksConfig:
    """kind "masks": the records of the stage before, with a mask for each box."""

    segmenter: SegmenterConfig = later()


@dataclass(frozen=True, kw_only=True)
class BoxCaptionerConfig(ServerKeys):
    """The model that says what is in a box. input "box_captioner": its folder, or what a server loads."""

    option: ClassVar[str] = "kind"

    kind: str = key(f"class of the model: {' | '.join(BOX_CAPTIONERS)} | none: boxes get no captions", choices=(*BOX_CAPTIONERS, NONE))
    path: str = plan_key(
        "local folder of the model in transformers' layout; its contents are in the fingerprint",
        null="what was fetched of repo, or model says",
        of=BOX_CAPTIONERS,
    )
    repo: str = plan_key("of launch/prefetch.py: the repository to fetch it from, ORG/NAME", null="none", of=BOX_MODELS)
    revision: str = plan_key("of launch/prefetch.py: commit, tag or branch", null="main", of=BOX_MODELS)
    prompt: str = key("what the model is asked about a box", of=BOX_CAPTIONERS, unread="")
    max_tokens: int = key("tokens a caption", low=1, of=BOX_CAPTIONERS, unread=1)
    crop_pixels: int = key("pixels of a box as the model sees it, whatever its shape", low=784, of=CHATS, unread=1)
    margin: float = key("share of a box's sides that is shown around it on each side", low=0, high=2, of=BOX_CAPTIONERS, unread=0.0)
    min_box: int = key("pixels; a box of fewer than its square gets its tag for a caption", low=1, of=BOX_CAPTIONERS, unread=1)
    rows: int = key("boxes a call of the model, or requests in flight", low=1, of=BOX_CAPTIONERS, unread=1)
    batch_size: int = plan_key("pictures whose boxes stand in one list", low=1, of=BOX_CAPTIONERS)
    stop_when_empty: int = plan_key(
        "a worker stops (exit code 65) when so many boxes were asked about and none has a caption; 0: never", low=0, of=CHATS
    )


@dataclass(frozen=True, kw_only=True)
class BoxCaptionsConfig:
    """kind "box_captions": the records of the stage before, with a caption for each box."""

    box_captioner: BoxCaptionerConfig = later()
