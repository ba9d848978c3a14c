"""Sample configs of captions, and of what is asked before them."""

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ClassEntry:
    """One class of the dataset. `index` is its official index, whatever range of classes is chosen."""

    index: int
    name: str  # official; the label and the key of tables
    superclass: str = ""
    spoken: str = ""  # as captions say it, where that is not the name: "kite (bird of prey)" -> "kite bird"

    @property
    def said(self) -> str:
        """The words that prompts use and that a caption must hold, on one line."""
        return " ".join((self.spoken or self.name.replace("_", " ")).split())


@dataclass(frozen=True)
class DatasetConfig:
    name: str
    classes: tuple[ClassEntry, ...]  # the chosen ones, in official order
    n_classes: int  # length of the official list: keys of slots are made of it
    kind: str = "object"  # object | texture
    suffix: str = ""  # joined to a class name in prompts where the name alone is ambiguous: "707-320" + " aircraft"

    def phrase(self, entry: ClassEntry) -> str:
        """How prompts name a class, on one line: a newline in a name would end a query."""
        return " ".join((entry.said + self.suffix).split())


@dataclass(frozen=True)
class PromptsConfig:
    """What a prompt maker is told. A key that a maker does not read keeps its default, so that it changes no fingerprint.

    inputs, where the maker needs them: "examples" (in-context examples by mode), "backgrounds" (places by class), "places"
    (a list of places), "metaprompts" (a list of texts), "captions" (the user's own).
    """

    maker: str = "synclr"
    class_balance: str = "exact"  # exact: blocks of one slot a class | random: a draw a slot | file: rows of a file in their order
    modes: Mapping[str, float] = field(default_factory=lambda: {"class": 0.44, "class_background": 0.45, "class_relation": 0.11})
    shots: int = 3
    group: int = 1  # captions that share their drawn examples
    num_backgrounds: int = 0  # synclr_chat: places asked for each class
    form: str = "static"  # hirpg: static: texts that hold [concept], made once | dynamic: made for each class
    num_metaprompts: int = 0  # hirpg: all, with the given ones
    num_prompts_per_metaprompt: int = 0
    max_prompts: int = 0  # hirpg: texts that are kept; captions a class
    max_words: int = 15  # synthclip, hirpg: asked for in the request
    templates: tuple[str, ...] = ()  # class_name: texts with {} for the class
    senses: Mapping[str, str] = field(default_factory=dict)  # fake_it, fake_definition: class index -> hypernym or definition
    content: str = ""  # from_file: sha256 of the file
    official: tuple[str, ...] = ()  # from_file: all class names, in order, where only some classes are chosen
    check: bool = True  # from_file: whether the checks of captions.* apply


@dataclass(frozen=True)
class CaptionerConfig:
    """inputs of engine llama: "weights" (folder in Meta's layout) and "tokenizer" (file); of hf, and of served where it is
    given a folder: "model" (folder in transformers' layout). What an engine does not read stands here as its default."""

    engine: str = "llama"
    id: str = "tiny_llama"
    temperature: float = 0.8
    top_p: float = 0.9
    max_seq_len: int = 512  # tokens, prompt and caption together
    max_gen_len: int = 100  # tokens
    max_batch_size: int = 32  # rows decoded at once inside a window
    model_parallel: int = 1  # processes = shards of the checkpoint
    stop: tuple[str, ...] = ("\n",)
    dtype: str = "float32"  # of weights, activations and KV cache
    model: str = ""  # name that a server knows the model by
    api: str = ""  # what a server is asked: chat | completions
    body: Mapping[str, typing.Any] = field(default_factory=dict)  # more fields of each request to a server; null: without it
    command: tuple[str, ...] = ()  # engine served: what starts the server


@dataclass(frozen=True)
class CaptionsConfig:
    """kind "captions": one caption a slot. Unit framing jsonl; batch = window."""

    seed: int
    dataset: DatasetConfig
    prompts: PromptsConfig
    captioner: CaptionerConfig
    max_attempts: int = 4  # tries of a slot until its caption passes the checks on itself alone
    must_name_class: bool = True
    min_words: int = 2
    max_words: int = 60


@dataclass(frozen=True)
class AskConfig:
    """kinds "metaprompts", "prompt_trees", "backgrounds": what a maker asks a model before it can make captions. Framing jsonl.

    upstream role "metaprompts": of prompt_trees. A prompt_trees stage is the upstream "prompts" of captions, a backgrounds stage
    their upstream "backgrounds".
    """

    seed: int
    dataset: DatasetConfig
    prompts: PromptsConfig
    captioner: CaptionerConfig
    max_attempts: int = 4  # tries of an answer until it can be used


@dataclass(frozen=True)
class CaptionsJsonConfig:
    """kind "captions_json": one unit that holds captions.json, captions.parquet and rejected.jsonl.

    upstream role "captions": one or several captions stages, in the order in which their slots are read.
    """

    total: int
    allow_short: bool = False
    per_class: int = 0  # rows of each class; 0: whatever classes the first `total` are of
    out: str = ""  # "" = the stage's own place below exports/
