"""Tiny random weights in CogView2's layout: python tiny.py FOLDER, in CogView2's environment. 20x20 and 60x60 tokens, as the real ones."""

import json
import sys
from pathlib import Path

import torch

SHAPE = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "max_sequence_length": 1024, "layernorm_order": "sandwich"}
EXTRA = {"coglm": 0, "cogview2-dsr": 3600, "cogview2-itersr": 3600}  # positions of larger pictures
TEXT = "a photo of red panda toys drawn on the table green car blue boat old house near water"


def tokenizers(folder: Path) -> int:
    """ice_text.model and ice_image.pt; the number of text tokens with the three that CogView2 adds."""
    import sentencepiece
    from icetk.vqvae import load_default_HVQVAE

    folder.mkdir(parents=True, exist_ok=True)
    texts = folder / "texts"
    words = TEXT.split()
    texts.write_text("\n".join(" ".join(words[i:] + words[:i]) for i in range(len(words))))
    sentencepiece.SentencePieceTrainer.train(
        input=str(texts), model_prefix=str(folder / "ice_text"), vocab_size=60, hard_vocab_limit=False, byte_fallback=False
    )
    texts.unlink()
    (folder / "ice_text.vocab").unlink()
    torch.save({"module": load_default_HVQVAE().state_dict()}, folder / "ice_image.pt")
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "ice_text.model")).vocab_size() + 3


def parameters(name: str, vocabulary: int) -> dict:
    """The state of a model of SHAPE, as SwissArmyTransformer names it."""
    from SwissArmyTransformer import mpu
    from SwissArmyTransformer.model.transformer import BaseTransformer

    assert mpu.model_parallel_is_initialized()
    own = {f"{k}_dropout_prob": 0.1 for k in ("embedding", "attention", "output")}
    transformer = BaseTransformer(vocab_size=vocabulary, checkpoint_activations=False, **SHAPE, **own)
    state = {f"transformer.{k}": v for k, v in transformer.state_dict().items()}
    hidden = SHAPE["hidden_size"]
    if EXTRA[name]:
        state["mixins.extra_position_embedding.position_embeddings.weight"] = torch.randn(EXTRA[name], hidden) * 0.02
    if name == "cogview2-dsr":
        for layer in range(SHAPE["num_layers"]):
            for part, rows in (("query_key_value", 3 * hidden), ("dense", hidden)):
                state[f"mixins.attention_plus.{part}.{layer}.weight"] = torch.randn(rows, hidden) * 0.02
                state[f"mixins.attention_plus.{part}.{layer}.bias"] = torch.zeros(rows)
    return state


def main(folder: Path) -> None:
    import socket

    from SwissArmyTransformer import mpu

    torch.manual_seed(3)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, init_method=f"tcp://127.0.0.1:{port}")
    mpu.initialize_model_parallel(1)
    vocabulary = 20000 + tokenizers(folder / "icetk_models")
    config = SHAPE | {"vocab_size": vocabulary, "hidden_dropout": 0.1, "attention_dropout": 0.1, "model_parallel_size": 1}
    for name in EXTRA:
        place = folder / name / "1"
        place.mkdir(parents=True)
        (folder / name / "latest").write_text("1")
        (folder / name / "model_config.json").write_text(json.dumps(config | {"model_class": name}))
        torch.save({"module": parameters(name, vocabulary)}, place / "mp_rank_00_model_states.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
