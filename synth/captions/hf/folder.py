"""A causal language model in transformers' layout, judged from its files alone: nothing here imports torch or transformers."""

from dataclasses import dataclass
from pathlib import Path

from synth.errors import InputError
from synth.layouts import instead
from synth.weights import check_adapters, check_safetensors, read_json, weight_files

FETCH = "fetch the model again"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


@dataclass(frozen=True)
class LanguageModel:
    """What a whole folder says about itself."""

    path: Path
    architecture: str  # "LlamaForCausalLM"
    positions: int  # tokens that it takes, 0 where its config does not say
    chat: bool  # whether a chat template lies in the folder


def inspect(path: Path) -> LanguageModel:
    """Read and check a folder: config, tokenizer, whole weights. Milliseconds; InputError names the file and the fix."""
    path = Path(path)
    if not path.is_dir():
        raise InputError(
            f"{path}: no such folder; captioner.path must be a local folder in transformers' layout (config.json, *.safetensors)"
        )
    if (not (path / "config.json").is_file() or (path / "adapter_config.json").is_file()) and (other := instead(path)):
        why = "missing" if not (path / "config.json").is_file() else "not all of a model"
        raise InputError(f"{path / 'config.json'}: {why}{other}")
    config = read_json(path / "config.json", FETCH)
    architectures = config.get("architectures") or []
    causal = [a for a in architectures if isinstance(a, str) and ("CausalLM" in a or "LMHead" in a or "ConditionalGeneration" in a)]
    if not causal:
        raise InputError(
            f"{path / 'config.json'}: architectures={architectures}: not a causal language model; captioner.path needs one{_other(path)}"
        )
    if not any((path / name).is_file() for name in _TOKENIZERS):
        raise InputError(f"{path}: has no tokenizer (none of {', '.join(_TOKENIZERS)}); {FETCH}, with its tokenizer")
    files = _weights(path)
    for file in files:
        check_safetensors(file)
    check_adapters(files)
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    positions = text.get("max_position_embeddings") or text.get("n_positions") or 0
    tokenizer = read_json(path / "tokenizer_config.json", FETCH) if (path / "tokenizer_config.json").is_file() else {}
    chat = bool(tokenizer.get("chat_template")) or (path / "chat_template.jinja").is_file()
    return LanguageModel(path, causal[0], positions if isinstance(positions, int) else 0, chat)


def check_length(model: LanguageModel, max_seq_len: int) -> None:
    """InputError if captions are asked of more tokens than the model takes."""
    if model.positions and max_seq_len > model.positions:
        raise InputError(f"captioner.max_seq_len={max_seq_len}: {model.path.name} takes {model.positions} tokens; use that or less")


def _other(path: Path) -> str:
    """What else the folder is, if its config names no class of transformers."""
    return instead(path) if "architectures" not in read_json(path / "config.json", FETCH) else ""


def _weights(path: Path) -> list[Path]:
    """The weight files, safetensors alone; those that an index and their own numbers name must all be there."""
    if not any(path.glob("*.safetensors")):
        others = sorted(p.name for p in path.iterdir() if p.suffix in (".bin", ".pth", ".gguf"))
        fix = "save it with save_pretrained(safe_serialization=True)" if others else FETCH
        raise InputError(f"{path}: holds no *.safetensors{f' (but {others[0]})' if others else ''}; {fix}")
    return [file for file in weight_files(path) if file.suffix == ".safetensors" and not file.name.startswith("consolidated")]
