"""A trained model as a folder of transformers: config, fp16 safetensors of few mantissa bits, tokenizer, how pictures are prepared."""

import json
import shutil
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from synth.embedded.train.rounding import round_mantissa

HALF = [0.5, 0.5, 0.5]  # mean and deviation of colours: pictures are -1..1


def write_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, pictures: dict, folder: Path, bits: int) -> None:
    """pictures: of preprocessor_config.json. bits: of the mantissas, see rounding.py. A folder that is there is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    model = model.to(torch.float16)
    for weights in model.parameters():
        weights.data = round_mantissa(weights.data, bits)
    model.save_pretrained(folder, safe_serialization=True)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        own = {key: value for key, value in settings.items() if key not in ("is_local", "local_files_only")}  # of how it was loaded
        (folder / "tokenizer_config.json").write_text(json.dumps(own, indent=2) + "\n")
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # which transformers keeps to its owner
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures, indent=2) + "\n")
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{folder}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {size / 1e6:.2f} MB")
