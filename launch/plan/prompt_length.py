"""Whether prompts leave room in captioner.max_seq_len, told before any process is started. The native engine alone: its
tokenizer counts without torch."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from launch.plan.engines import Engine
from launch.plan.makers import Maker
from synth.captions.config import DatasetConfig
from synth.captions.prompts import UPSTREAM, make
from synth.errors import InputError

LOOKED_AT = 32  # slots; single prompts that are too long are rejections of theirs, not an error of the run


def check_length(dataset: DatasetConfig, maker: Maker, engine: Engine, seed: int) -> None:
    """InputError where none of the first prompts of a stage fits, with the number of tokens that they would need."""
    if engine.config.engine != "llama" or not maker.asks or maker.config.maker in UPSTREAM:  # UPSTREAM: not known yet
        return
    room = engine.config.max_seq_len
    tables = {role: _table(file.path, file.identity) for role, file in maker.inputs.items()}
    if _bytes(tables["examples"], maker.config.shots) < 1.5 * room:  # English has 2 bytes a token at least: they fit
        return
    made = make(dataset, maker.config, tables.__getitem__)  # needs numpy, which is slow to import
    texts = [made.prompt(seed, slot, 0).text for slot in range(LOOKED_AT)]
    tokens = [len(ids) for ids in _tokenizer(engine.inputs["tokenizer"].path).encode(texts)]
    if min(tokens) >= room:
        fix = f"set it to {max(tokens) + engine.config.max_gen_len}, or lower prompts.shots={maker.config.shots}"
        raise InputError(
            f"captioner.max_seq_len={room}: prompts of this run have {min(tokens)} to {max(tokens)} tokens, captions come on top; {fix}"
        )


def _bytes(examples: Mapping, shots: int) -> int:
    """More than a prompt has, but for very long names."""
    longest = max((len("".join(map(str, e.values())).encode()) for found in examples.values() for e in found), default=0)
    return 150 + shots * (longest + 10)


@cache
def _table(path: str, identity: str):
    return json.loads(Path(path).read_text(encoding="utf-8"))


@cache
def _tokenizer(path: str):
    from synth.captions.llama.tokenizer import Tokenizer

    return Tokenizer(path)
