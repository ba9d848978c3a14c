"""A small chat model for tests: answers from the words of the question and the seed, and is as unruly as real ones."""

import re

from synth.captions.engines import Reply
from synth.seeds import generator

SCENES = (
    "at dawn",
    "under a bridge",
    "beside a red barn",
    "on a wet road",
    "in soft fog",
    "near tall reeds",
    "by candle light",
    "in a narrow yard",
)
PLACES = ("quiet lake", "old barn", "market hall", "stone quay", "pine wood", "roof garden", "salt marsh", "train platform")


class Chat:
    """Remembers what it was asked in `asked`, a round a list."""

    def __init__(self, wild: bool = True):
        self.wild, self.asked = wild, []

    def check(self): ...

    def start(self): ...

    def close(self): ...

    def generate(self, requests):
        self.asked.append(list(requests))
        return [Reply(self.answer(r)) for r in requests]

    def answer(self, request) -> str:
        rng = generator(request.seed)
        question = request.messages[-1][1] if request.messages else request.text
        roll = rng.random()
        scene, number = SCENES[rng.integers(len(SCENES))], rng.integers(1000)
        if "brackets" in question:
            return "I'm sorry, I can't help." if self.wild and roll < 0.3 else f"Of course! {sorted(PLACES[rng.integers(8) :])}"
        if self.wild and roll < 0.1:
            return "I'm sorry, but as an AI language model I cannot do that."
        if self.wild and roll < 0.2:
            return "Sure! A lone lamp, as you asked."
        name = (
            re.findall(r'"([^"]+)"', question)[-1] if request.messages else question.rsplit("\n\n", 1)[1].removesuffix(" =>").split(",")[0]
        )
        sentence = f"One {name} {scene}, number {number}."
        if "prompt: <" in question:
            return f"prompt: {sentence}"
        return f'\n**Caption:** "{sentence}"\n\nI hope this helps!' if self.wild and roll < 0.4 else sentence


def from_stage(folder):
    """What synth.captions.engines.ENGINES points at in tests."""
    return Chat()
