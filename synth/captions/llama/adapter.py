"""The native engine as a captions stage asks for it: stage folder in, engine out."""

import os

from synth.captions.llama.config import EngineConfig
from synth.captions.llama.engine import LlamaEngine
from synth.store.folder import StageFolder


def from_stage(folder: StageFolder) -> LlamaEngine:
    """The engine of a captions stage (inputs "weights" and "tokenizer"), not started; its log goes to the stage's logs/."""
    captioner = folder.config.captioner
    return LlamaEngine(
        EngineConfig(
            ckpt_dir=str(folder.input_path("weights")),
            tokenizer_path=str(folder.input_path("tokenizer")),
            model_parallel=captioner.model_parallel,
            temperature=captioner.temperature,
            top_p=captioner.top_p,
            max_seq_len=captioner.max_seq_len,
            max_gen_len=captioner.max_gen_len,
            max_batch_size=captioner.max_batch_size,
            stop=tuple(captioner.stop),
            dtype=captioner.dtype,
            numerics=dict(folder.spec.numerics),
            log=str(folder.path / "logs" / f"torchrun-{os.getpid()}.log"),
        )
    )
