"""params.json of a LLaMA checkpoint: the model's dimensions, and which model-parallel degrees they allow. No torch."""

from dataclasses import dataclass, replace
from pathlib import Path

from synth import foreign
from synth.errors import InputError


@dataclass(frozen=True)
class ModelParams:
    """Dimensions of one model. `vocab_size` -1 means "the tokenizer's": resolve it with `with_vocab`."""

    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int  # fewer than n_heads: grouped-query attention (2 or more query heads share a key head)
    vocab_size: int
    multiple_of: int = 256  # the feed-forward size is rounded up to a multiple of this
    ffn_dim_multiplier: float | None = None
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_factor: float | None = None  # Llama 3.1 and later: slow rotations are this much slower (model.rotations)
    embedding_rows: bool = False  # a rank holds rows of the embedding (Llama 3), not columns (LLaMA 1 and 2); the shards tell

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads

    @property
    def ffn_dim(self) -> int:
        """Width of the feed-forward layer: 2/3 of 4*dim (SwiGLU has three matrices), scaled, rounded up."""
        ffn = int(2 * (4 * self.dim) / 3)
        if self.ffn_dim_multiplier is not None:
            ffn = int(self.ffn_dim_multiplier * ffn)
        return self.multiple_of * -(-ffn // self.multiple_of)

    def with_vocab(self, tokenizer_vocab: int, tokenizer_path: object = "the tokenizer") -> "ModelParams":
        """These params with the vocabulary size known; InputError if the tokenizer's differs from params.json's."""
        if self.vocab_size == -1:
            return replace(self, vocab_size=tokenizer_vocab)
        if self.vocab_size != tokenizer_vocab:
            raise InputError(
                f"{tokenizer_path} has {tokenizer_vocab} pieces but params.json says vocab_size {self.vocab_size}: "
                "use the tokenizer.model that came with this checkpoint"
            )
        return self

    def check_degree(self, degree: int, where: object = "this model") -> None:
        """InputError unless every split dimension divides by the model-parallel degree."""
        if degree < 1:
            raise InputError(f"model_parallel={degree}: it must be at least 1")
        split = {"n_heads": self.n_heads, "n_kv_heads": self.n_kv_heads, "dim": self.dim, "ffn size": self.ffn_dim}
        if self.vocab_size != -1:
            split["vocab_size"] = self.vocab_size
        for name, size in split.items():
            if size % degree:
                fits = [d for d in range(1, min(split.values()) + 1) if all(s % d == 0 for s in split.values())]
                raise InputError(f"{where}: {name} {size} does not divide by model_parallel={degree}; degrees that fit: {fits}")


ROPE_FACTOR = 8.0  # of Meta's own code; params.json may hold another one as rope_scaling_factor
_NOT_RUN = {  # keys of params.json -> the models that have them
    "vision_chunk_size": "pictures",
    "vision_model": "pictures",
    "moe_args": "experts",
    "quantization_args": "quantised weights",
    "lora_args": "an adapter beside its weights",
}
_INTS = ("dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "multiple_of")


def read_params(ckpt_dir: str | Path) -> ModelParams:
    """ModelParams of `ckpt_dir`/params.json. InputError names the file, the key and the fix."""
    path = Path(ckpt_dir) / "params.json"
    try:
        raw = foreign.read_json(path, foreign.RECORD, "copy it anew from the checkpoint's source")
    except FileNotFoundError:
        raise InputError(
            f"{path} is {foreign.absent(path)}: ckpt_dir must hold params.json, consolidated.NN.pth and tokenizer.model (Meta's layout)"
        ) from None
    except OSError as err:
        raise InputError(f"{path} cannot be read ({err.strerror}): copy it anew from the checkpoint's source") from err
    if not isinstance(raw, dict):
        raise InputError(f"{path} holds a {type(raw).__name__}, not an object with dim, n_layers, n_heads, ...")
    return params_from(raw, path)


def params_from(raw: dict, path: object = "params.json") -> ModelParams:
    """ModelParams from the parsed object; `path` only serves the messages."""
    for name in ("dim", "n_layers", "n_heads"):
        if name not in raw:
            raise InputError(f"{path} has no {name!r}; it holds {sorted(raw)}")
    if foreign_to := next((name for name in _NOT_RUN if raw.get(name) not in (None, False, -1, {})), None):
        raise InputError(f"{path} has {foreign_to} ({_NOT_RUN[foreign_to]}): this engine runs LLaMA 1, 2 and 3 of text; use captioner=hf")
    values = {
        "dim": raw["dim"],
        "n_layers": raw["n_layers"],
        "n_heads": raw["n_heads"],
        "n_kv_heads": raw["n_heads"] if raw.get("n_kv_heads") is None else raw["n_kv_heads"],
        "vocab_size": raw.get("vocab_size", -1),
        "multiple_of": raw.get("multiple_of", 256),
        "ffn_dim_multiplier": raw.get("ffn_dim_multiplier"),
        "norm_eps": raw.get("norm_eps", 1e-5),
        "rope_theta": raw.get("rope_theta", 10000.0),
        "rope_factor": raw.get("rope_scaling_factor", ROPE_FACTOR) if raw.get("use_scaled_rope") else None,
    }
    for name in _INTS:
        value = values[name]
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or (value < 1 and not (name == "vocab_size" and value == -1)):
            raise InputError(f"{path}: {name} is {value!r}, expected a positive whole number")
    for name in ("ffn_dim_multiplier", "norm_eps", "rope_theta", "rope_factor"):
        value = values[name]
        if value is None and name in ("ffn_dim_multiplier", "rope_factor"):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise InputError(f"{path}: {name} is {value!r}, expected a positive number")
    params = ModelParams(**values)
    if params.dim % params.n_heads or params.head_dim % 2:
        raise InputError(f"{path}: dim {params.dim} does not give {params.n_heads} heads of an even size")
    if params.n_heads % params.n_kv_heads:
        raise InputError(f"{path}: n_heads {params.n_heads} is not a multiple of n_kv_heads {params.n_kv_heads}")
    return params
