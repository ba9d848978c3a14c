"""What crosses the border of the engine: its config, a request and a completion. Plain data, no torch."""

from dataclasses import dataclass, field
from pathlib import Path

from synth.errors import InputError

DTYPES = ("float32", "bfloat16", "float16")
# what a window costs (generate.Window), added up over the windows of an engine
SPENT = ("prefill_tokens", "decode_tokens", "drawn_tokens", "live_row_steps", "steps", "prefills")
_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class EngineConfig:
    """All that decides what the engine writes, and where its log goes.

    A caption is a function of the weights, these values, its prompt and its seed. `max_batch_size` changes it only by
    the rounding of the logits (1e-5 in float32): a draw that close to an edge may fall on its other side.
    """

    ckpt_dir: str
    tokenizer_path: str | None = None  # default: ckpt_dir/tokenizer.model
    model_parallel: int | None = None  # processes; default: the number of shards, the only one they can be run with
    temperature: float = 0.8  # 0: the likeliest token
    top_p: float = 0.9  # nucleus: the smallest set of likeliest tokens whose probability exceeds this
    max_seq_len: int = 512  # tokens of prompt and caption together; sizes the KV cache
    max_gen_len: int = 100  # tokens of a caption, its stop token included
    max_batch_size: int = 32  # rows decoded together; sizes the KV cache
    stop: tuple[str, ...] = ("\n",)  # a caption ends before the first of these
    dtype: str = "float32"  # of weights, activations and KV cache
    device: str = "auto"  # cpu, cuda (one GPU a process), auto: cuda where there is one
    numerics: dict = field(default_factory=lambda: {"threads": 1, "deterministic": True})
    log: str | None = None  # file that takes what the processes print; default: a temporary one, kept on failure
    start_timeout: float = 1800.0  # seconds until the weights must be loaded

    @property
    def tokenizer(self) -> Path:
        return Path(self.tokenizer_path) if self.tokenizer_path else Path(self.ckpt_dir) / "tokenizer.model"

    @property
    def torch_dtype(self) -> str:
        return _SHORT.get(self.dtype, self.dtype)

    def check(self) -> None:
        """InputError for a value out of range, naming the key."""
        if self.torch_dtype not in DTYPES:
            raise InputError(f"captioner.dtype={self.dtype!r}: one of {', '.join(DTYPES)}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise InputError(f"captioner.device={self.device!r}: one of auto, cpu, cuda")
        if not self.temperature >= 0:
            raise InputError(f"captioner.temperature={self.temperature}: 0 (the likeliest token) or more")
        if not 0 <= self.top_p <= 1:
            raise InputError(f"captioner.top_p={self.top_p}: between 0 and 1")
        for key in ("max_seq_len", "max_gen_len", "max_batch_size"):
            if getattr(self, key) < 1:
                raise InputError(f"captioner.{key}={getattr(self, key)}: at least 1")
        if isinstance(self.stop, str) or not all(self.stop):
            raise InputError(f"captioner.stop={self.stop!r}: a list of texts, none of them empty")


@dataclass(frozen=True)
class Completion:
    """What one request got. A request that cannot be served (prompt too long) has `error`, and no text."""

    text: str  # before the stop text; not stripped
    n_tokens: int  # tokens drawn, the stop token included
    stop_reason: str  # stop, eos, max_gen_len, max_seq_len or error
    error: str = ""

    @property
    def ended(self) -> bool:
        """By the model or a stop text: it was not cut off."""
        return self.stop_reason not in ("max_gen_len", "max_seq_len")
