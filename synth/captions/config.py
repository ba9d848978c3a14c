"""Keys of dataset, prompts, captioner and captions, and the sample configs of captions and of what is asked before them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from synth.keys import key, later, plan_key

ANNOTATED = ("annotated",)  # datasets with objects in COCO's or LVIS's form
SYNCLR, EXAMPLES, HIRPG = ("synclr", "synclr_chat"), ("synclr", "synclr_chat", "synthclip"), ("hirpg",)
SERVERS = ("openai", "served")


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


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    name: str = key("folder below runs_dir")
    # stage.json holds the chosen ones, in official order
    classes: tuple[ClassEntry, ...] = key(
        "all | range such as 0..4, both ends included | list of names, indices and ranges; of annotated images only all",
        given=Any,
    )
    n_classes: int = later()  # length of the official list: keys of slots are made of it
    classes_file: str = plan_key("text file with one class a line, or a JSON list: for names with commas", null="as classes says")
    classes_json: str = plan_key("the official list; its order fixes the labels", null="as source says")
    source: str = plan_key(
        "text file (a name a line), CSV (column `name`), JSON, a folder with a subfolder for each class, or Parquet or HDF5 pictures",
        null="as classes_json says",
    )
    examples: str = plan_key("in-context examples by mode", null="none")
    backgrounds: str = plan_key("places by class or super-class; general ones for classes without", null="none")
    kind: str = key("object | texture: how prompts speak of a class", choices=("object", "texture"), null="object", unread="object")
    suffix: str = key('appended to a class name where the name alone is ambiguous: "707-320" + " aircraft"', null="nothing is", unread="")
    annotations: str = plan_key(
        "COCO/LVIS JSON with segmentations (lvis_v1_train.json, instances_train2017.json)", null="must be given", of=ANNOTATED
    )
    images: str = plan_key("folder with the images, or an HDF5 file keyed by file name", null="must be given", of=ANNOTATED)
    captions: str = plan_key("COCO captions JSON (captions_train2017.json)", null="no text and no guidance", of=ANNOTATED)
    base_classes: bool = plan_key("true: LVIS's classes without the rare ones (frequency r), numbered anew from 1", of=ANNOTATED)
    native_min_area: float = plan_key("pixels: smaller objects are not kept", of=ANNOTATED)
    native_min_variant_area: float = plan_key("pixels: smaller warped ones are not annotated", of=ANNOTATED)
    native_dilate: int = plan_key("pixels around an object that are kept with it", of=ANNOTATED)

    def __post_init__(self):
        for name, meant in (("kind", "object"), ("suffix", "")):  # a YAML file of the user's may leave them out
            if getattr(self, name) is None:
                object.__setattr__(self, name, meant)

    @property
    def annotated(self) -> bool:
        """Whether it has annotated images in the place of a list of classes to ask for."""
        return self.base_classes is not None

    def phrase(self, entry: ClassEntry) -> str:
        """How prompts name a class, on one line: a newline in a name would end a query."""
        return " ".join((entry.said + self.suffix).split())


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """What a prompt maker is told.

    inputs, where the maker needs them: "examples" (in-context examples by mode), "backgrounds" (places by class), "places"
    (a list of places), "metaprompts" (a list of texts), "captions" (the user's own).
    """

    option: ClassVar[str] = "maker"

    maker: str = key("what makes prompts")
    class_balance: str = key(
        "exact: equal counts, blocks of one slot a class | random: a class drawn a slot | file: rows of a file in their order",
        unread="exact",
    )
    examples_file: str = plan_key("JSON of in-context examples by mode", null="the dataset's")
    backgrounds_file: str = plan_key(
        'JSON {class or super-class: [place, ..]}, "*" for all others; of synclr_chat: no model is asked for a class in it',
        null="the dataset's",
    )
    modes: Mapping[str, float] = key("share of each mode, sums to 1", of=SYNCLR, unread=dict)
    shots: int = key("examples before the question; for models that continue a text instead of answering", low=0, of=EXAMPLES, unread=0)
    examples_per: str = plan_key(
        "caption: examples drawn for each, as in the paper | group: shared by neighbours, cheaper on a GPU",
        choices=("caption", "group"),
        of=SYNCLR,
    )
    group_size: int = plan_key("captions that share their examples, where examples_per=group", low=1, of=SYNCLR)
    group: int = later(1)  # captions that share their drawn examples
    own_places: bool = later(factory=bool, sparse=True)  # synclr_chat: the user's file of places stands before the model
    num_backgrounds: int = key(
        "places asked for each class; captioner.max_gen_len must hold them, 6 tokens each", low=1, of=("synclr_chat",), unread=0
    )
    form: str = key(
        "static: texts with [concept], written once for all classes | dynamic: written for each class",
        choices=("static", "dynamic"),
        of=HIRPG,
        unread="static",
    )
    num_metaprompts: int = key("with those that are given", low=1, of=HIRPG, unread=0)
    num_prompts_per_metaprompt: int = key("asked for below each metaprompt, one after the other", low=0, of=HIRPG, unread=0)
    max_prompts: int = key("texts kept, all metaprompts among them: different captions of a class", low=1, of=HIRPG, unread=0)
    max_words: int = key("words asked for; captions.max_words is what is refused", low=1, of=("synthclip", *HIRPG), unread=15)
    metaprompts_file: str = plan_key("JSON list of texts with [concept] to begin with", null="our own three", of=HIRPG)
    templates: tuple[str, ...] = key(
        "{} (or [concept]) is the class; as many captions of a class as there are templates", of=("class_name",), unread=()
    )
    templates_file: str = plan_key("text file with one template a line, instead", null="none", of=("class_name",))
    source: str = plan_key(
        "of hypernyms: auto: WordNet where its data is, else our table | wordnet | table",
        choices=("auto", "wordnet", "table"),
        of=("fake_it",),
    )
    hypernyms_file: str = plan_key("JSON {class: hypernym}, before either", null="none", of=("fake_it",))
    places_file: str = plan_key("JSON list of places", null="our own general ones", of=("fake_it",))
    definitions_file: str = plan_key(
        "JSON {class: definition}; WordNet for classes that it leaves out", null="WordNet for all", of=("fake_definition",)
    )
    senses: Mapping[str, str] = later(factory=dict)  # fake_it, fake_definition: class index -> hypernym or definition
    file: str = plan_key(
        ".txt (caption => class), .csv, .tsv, .jsonl, .json (SynCLR's, GenCL's static and dynamic); a list of such files, a folder of "
        "them, or a pattern",
        given=Any,
        null="must be given",
        of=("from_file",),
    )
    prompts_key: str | None = key(
        "captions_single_labeled | captions_multiple_labeled: which list of SynCLR's JSON",
        null="the one that is there",
        sparse=True,
        of=("from_file",),
        unread=None,
    )
    on_bad: str = plan_key(
        "error: lines that cannot be taken are told, all of them | skip: they are left out, and told",
        choices=("error", "skip"),
        of=("from_file",),
    )
    content: str = later("")  # from_file: sha256 of the file, see synth.captions.prompts.own
    official: tuple[str, ...] = later(())  # from_file: all class names, in order, where only some classes are chosen
    also: Mapping[str, int] = later(factory=dict, sparse=True)  # from_file: other names of classes that the file uses -> official index
    check: bool = key("true: refuse captions that the checks of captions.* refuse; else only empty ones", of=("from_file",), unread=True)

    def only(self, *names: str) -> Self:
        """With these keys alone, the others as if the maker did not have them: what a stage does not read changes no fingerprint."""
        return type(self)(maker=self.maker, **{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class CaptionerConfig:
    """A caption engine. inputs of engine llama: "weights" (folder in Meta's layout) and "tokenizer" (file); of hf, and of served
    where it is given a folder: "model" (folder in transformers' layout)."""

    option: ClassVar[str] = "engine"

    engine: str = key("llama: the native LLaMA-2 engine | hf: transformers, in this worker | openai | served | none: prompts are captions")
    id: str = key("goes into every caption record", null="the name of the model or of its folder")
    root: str = plan_key("folder of Meta's download; the two paths below are relative to it", null="they stand alone", of=("llama",))
    ckpt_dir: str = plan_key("folder in Meta's layout: params.json, consolidated.*.pth", null="must be given", of=("llama",))
    tokenizer_path: str = plan_key("sentencepiece model, or Llama 3's table of ranks", null="must be given", of=("llama",))
    path: str = plan_key(
        "local folder in transformers' layout (config.json, tokenizer, *.safetensors), of served also one GGUF file; its contents are in "
        "the fingerprint",
        null="of hf: what was fetched of repo; of served: model says",
        of=("hf", "served"),
    )
    repo: str = plan_key("of launch/prefetch.py: the repository to fetch it from, ORG/NAME", null="none", of=("hf",))
    revision: str = plan_key("of launch/prefetch.py: commit, tag or branch", null="main", of=("hf",))
    model: str = key("name that the server knows the model by", null="of served: path says; else it must be given", of=SERVERS, unread="")
    base_url: str = plan_key("address; not in the fingerprint: moving buys no caption twice", null="must be given", of=("openai",))
    api_key_env: str = plan_key("name of the variable that holds the key, never the key", null="the server wants none", of=("openai",))
    command: tuple[str, ...] = key("what starts the server; may hold {model}, {host}, {port} and other keys", of=("served",), unread=())
    flags: tuple[str, ...] = plan_key(
        "more words of the command, such as change its speed alone: they are not in the fingerprint", null="none", of=("served",)
    )
    pass_env: tuple[str, ...] = plan_key(
        "names of variables with secrets that it is given; all others with a secret name are kept from it", null="none", of=("served",)
    )
    health: str = plan_key("path that answers 200 once requests may come", of=("served",))
    start_timeout: float = plan_key("seconds until then; a first start compiles for minutes", of=("served",))
    restarts: int = plan_key("starts after the first, should the server die", low=0, of=("served",))
    api: str = key(
        "completions (base models, which continue a text) | chat (models with a chat template)",
        choices=("chat", "completions"),
        of=SERVERS,
        unread="",
    )
    body: Mapping[str, Any] = key(
        "more fields of each request, for example {top_k: 50}; null takes one away", given=Any, null="none", of=SERVERS, unread=dict
    )
    template: Mapping[str, Any] | None = key(
        "arguments of the model's chat template, for example {enable_thinking: false}", given=Any, null="none", sparse=True, of=("hf",),
        unread=None,
    )  # fmt: skip
    temperature: float = key("0: the likeliest token", low=0, unread=0.8)
    top_p: float = key("nucleus", low=0, high=1, unread=0.9)
    max_seq_len: int = key("tokens, prompt and caption; longer prompts are rejected as prompt_too_long", low=8, unread=512)
    max_gen_len: int = key("tokens a caption", low=1, unread=100)
    max_batch_size: int = key(
        "rows decoded at once inside a window; of llama also auto: what fits beside the weights in one GPU (on cores 32), at most "
        "captions.window and unit_size; of servers: requests in flight",
        given=Any,
        unread=32,
    )
    model_parallel: int = key(
        "processes of llama, else GPUs a worker", low=1, null="of llama: the number of shards in ckpt_dir; else 1", unread=1
    )
    stop: tuple[str, ...] = key("a caption ends before the first of these texts", unread=("\n",))
    dtype: str = key(
        "of weights, activations and KV cache; exact numerics are promised in float32; a GPU that emulates bfloat16 takes float16",
        choices=("float32", "bfloat16", "float16"),
        unread="float32",
    )
    timeout: float = plan_key("seconds for one answer", of=SERVERS)
    retries: int = plan_key(
        "tries after the first on 408, 409, 425, 429, 5xx and lost connections, 1 s to 60 s apart or as Retry-After says", low=0, of=SERVERS
    )
    longest_wait: float = plan_key("seconds; a server that asks for more is given up for now (exit code 75)", of=("openai",))
    price_in: float = plan_key("money for a million tokens of prompts; only counted, in events/ and in status", low=0, of=("openai",))
    price_out: float = plan_key("money for a million tokens of answers", low=0, of=("openai",))
    max_requests: int = plan_key(
        "answers of a stage, all its workers and runs together; then it stops (exit code 75), and goes on with a higher one",
        low=1,
        null="no limit",
        of=("openai",),
    )
    max_cost: float = plan_key(
        "money of a stage, likewise, by price_in and price_out; requests under way are answered", low=0, null="no limit", of=("openai",)
    )


@dataclass(frozen=True, kw_only=True)
class CaptionsConfig:
    """kind "captions": one caption a slot. Unit framing jsonl; batch = window."""

    seed: int = key("integer; captions of another seed are other captions")
    seeds: tuple[int, ...] = plan_key("list of integers: one captions stage each, all feeding one captions.json", null="seed alone")
    stages: tuple[str, ...] = plan_key(
        "list of captions stage folders made before: they feed captions.json, no captions are made", null="captions are made"
    )
    total: int = plan_key("captions in captions.json", low=1, null="as per_class says")
    per_class: int = plan_key(
        "instead of total: captions of each class", low=1, null="total; both null: 8 a class (from_file: all of the file)"
    )
    oversample: float = plan_key("ratio made / wanted: pays for duplicates and for captions that fail their checks", low=1)
    allow_short: bool = plan_key("accept fewer than `total` instead of failing with exit code 65")
    stop_when_empty: int = plan_key(
        "a worker stops (exit code 65) when so many slots got no caption and the stage has none; 0: never", low=0
    )
    unit_size: int = plan_key("slots a unit: what a killed job can lose is less than this; auto: one window, 32 at least", given=Any)
    window: int = plan_key(
        "slots decoded together, finished rows refilled; it fixes the bytes; auto: 16 times the rows, 256 to 4096; on cores 32",
        given=Any,
    )
    dataset: DatasetConfig = later()
    prompts: PromptsConfig = later()
    captioner: CaptionerConfig = later()
    max_attempts: int = key("tries of a slot before it becomes a tombstone", low=1)
    must_name_class: bool = key("redraw a caption that does not name its class")
    min_words: int = key("words; shorter captions are redrawn", low=0)
    max_words: int = key("words; longer ones are cut-off ramblings", low=1)


@dataclass(frozen=True, kw_only=True)
class AskConfig:
    """kinds "metaprompts", "prompt_trees", "backgrounds": what a maker asks a model before it can make captions. Framing jsonl.

    upstream role "metaprompts": of prompt_trees. A prompt_trees stage is the upstream "prompts" of captions, a backgrounds stage
    their upstream "backgrounds".
    """

    seed: int
    dataset: DatasetConfig
    prompts: PromptsConfig
    captioner: CaptionerConfig
    max_attempts: int  # tries of an answer until it can be used


@dataclass(frozen=True, kw_only=True)
class CaptionsJsonConfig:
    """kind "captions_json": one unit that holds captions.json, captions.parquet and rejected.jsonl.

    upstream role "captions": one or several captions stages, in the order in which their slots are read.
    """

    total: int
    allow_short: bool
    per_class: int  # rows of each class; 0: whatever classes the first `total` are of
    out: str  # "" = the stage's own place below exports/
