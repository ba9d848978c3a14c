"""The native engine as a captions stage asks for it: stage folder in, engine out."""

import os
from collections.abc import Sequence

from synth.captions.engines import TOO_LONG, More, Reply, Request
from synth.captions.llama.config import Completion, EngineConfig
from synth.captions.llama.engine import LlamaEngine
from synth.kinds import config_of
from synth.store.folder import StageFolder


class Native:
    """LlamaEngine with the reasons of a captions stage: a prompt without room is one sample's matter, told in one word."""

    def __init__(self, config: EngineConfig):
        self.llama = LlamaEngine(config)

    def check(self) -> None:
        self.llama.check()

    def start(self) -> None:
        self.llama.start()

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        return [_reply(c) for c in self.llama.generate(requests)]

    def serve(self, requests: Sequence[Request], more: More) -> None:
        self.llama.serve(requests, lambda ended: more([(number, _reply(c)) for number, c in ended]))

    def usage(self) -> dict[str, float]:
        return self.llama.usage()

    def close(self) -> None:
        self.llama.close()


def _reply(completion: Completion) -> Reply:
    return Reply(completion.text, TOO_LONG if completion.error else "")


def from_stage(folder: StageFolder) -> Native:
    """The engine of a captions stage (inputs "weights" and "tokenizer"), not started; its log goes to the stage's logs/."""
    captioner = config_of(folder).captioner
    return Native(
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
