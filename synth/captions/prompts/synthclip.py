"""SynthCLIP's prompts (Hammoud et al. 2024, arXiv 2402.01832): one question a concept, the answer bounded in words."""

from synth import seeds
from synth.captions.config import DatasetConfig, PromptsConfig
from synth.captions.prompts import Prompt, Sources
from synth.captions.prompts.classes import balance
from synth.captions.prompts.shots import Shots

SYSTEM = "You invent scenes for pictures and describe what can be seen in them."
_ASKED = (
    "Write the caption of a picture with this main subject: {what}. Say what the scene looks like around it. "
    'One sentence of at most {words} words that holds "{phrase}", and nothing else.'
)


class Synthclip:
    """Prompt maker `synthclip`. A model that continues texts gets in-context examples instead of the question."""

    def __init__(self, dataset: DatasetConfig, prompts: PromptsConfig, sources: Sources):
        self.dataset, self.max_words = dataset, prompts.max_words
        self.balance = balance(dataset, prompts)
        self.mode = "texture" if dataset.kind == "texture" else "class"
        self.shots = Shots(sources.table("examples"), (self.mode,), prompts.shots)

    def prompt(self, seed: int, slot: int, attempt: int) -> Prompt:
        turn = self.balance.turn(seed, slot)
        entry = turn.entry
        sample_seed = seeds.derive(seed, "captions", turn.key, attempt)
        phrase = self.dataset.phrase(entry)
        drawn = self.shots.draw(self.mode, seeds.generator(seeds.derive(sample_seed, "prompt")))
        what = f"a surface with a {phrase} texture" if self.mode == "texture" else phrase
        question = _ASKED.format(what=what, words=self.max_words, phrase=phrase)
        messages = (("system", SYSTEM), ("user", question))
        text = self.shots.text(self.mode, drawn, phrase)
        return Prompt(turn.key, text, entry.name, entry.index, self.mode, sample_seed, attempt, entry.said, messages)
