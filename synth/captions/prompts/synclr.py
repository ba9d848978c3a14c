"""SynCLR's in-context prompts (Tian et al. 2023, arXiv 2312.17742), and the same modes asked of a chat model.

Headings, examples, backgrounds and relations are our own.
"""

from collections.abc import Mapping

from synth import seeds
from synth.captions.config import DatasetConfig, PromptsConfig
from synth.captions.prompts import Prompt, Sources
from synth.captions.prompts.classes import Turn, balance
from synth.captions.prompts.modes import Modes, places_of, second_word
from synth.captions.prompts.shots import Shots

SYSTEM = "You write captions of pictures. Answer with the caption alone, one sentence on one line."
_ASKED = {
    "class": "Describe a picture with this main subject: {phrase}.",
    "class_background": "Describe a picture with this main subject: {phrase}. It is in this place: {second}.",
    "class_relation": "Describe a picture with this main subject: {phrase}. There is something else too; "
    'say with "{second}" how the two are placed.',
    "texture": "Describe a close-up picture of a surface whose texture is {phrase}.",
}


class Synclr:
    """Prompt maker `synclr`. Everything is drawn from the slot's own stream; the mode from the slot alone, so that
    redrawn attempts keep the shares of the modes. With prompts.group > 1 the examples are drawn from the stream of a group
    of neighbouring slots, one set for each mode."""

    def __init__(self, dataset: DatasetConfig, prompts: PromptsConfig, sources: Sources):
        self.dataset, self.group = dataset, prompts.group
        self.balance = balance(dataset, prompts)
        self.modes = Modes(dataset, prompts.modes)
        self.shots = Shots(sources.table("examples"), self.modes.shares, prompts.shots)
        self.backgrounds = self._places(sources) if "class_background" in self.modes.shares else {}

    def _places(self, sources: Sources) -> Mapping[int, list[str]]:
        """Class index -> its places."""
        table = sources.table("backgrounds")
        return {entry.index: places_of(entry, table) for entry in self.dataset.classes}

    def prompt(self, seed: int, slot: int, attempt: int) -> Prompt:
        """The prompt of a slot; at most `max_attempts` different ones are asked for it."""
        turn = self.balance.turn(seed, slot)
        entry, mode = turn.entry, self._mode(seed, turn)
        sample_seed = seeds.derive(seed, "captions", turn.key, attempt)
        rng = seeds.generator(seeds.derive(sample_seed, "prompt"))
        shared = self.group > 1
        group = seeds.derive(seed, "captions", "group", turn.place // self.group, mode, attempt)
        drawn = self.shots.draw(mode, seeds.generator(group) if shared else rng)
        second = second_word(mode, self.backgrounds.get(entry.index, []), rng)
        phrase = self.dataset.phrase(entry)
        text = self.shots.text(mode, drawn, phrase, second)
        messages = self.messages(mode, phrase, second)
        return Prompt(turn.key, text, entry.name, entry.index, mode, sample_seed, attempt, entry.said, messages)

    def _mode(self, seed: int, turn: Turn) -> str:
        return self.modes.of(seed, turn.key)

    def messages(self, mode: str, phrase: str, second: str) -> tuple[tuple[str, str], ...]:
        return ()  # a chat model gets the text as it is


class SynclrChat(Synclr):
    """Prompt maker `synclr_chat`: the modes as questions to a chat model, over places that a model named for each class
    (upstream role "backgrounds"). A class for which none were found is asked for without a place."""

    def _places(self, sources: Sources) -> Mapping[int, list[str]]:
        records = (record for _, record in sources.records("backgrounds") if not isinstance(record, str))
        return {record["label"]: record["backgrounds"] for record in records}

    def _mode(self, seed: int, turn: Turn) -> str:
        mode = super()._mode(seed, turn)
        return "class" if mode == "class_background" and not self.backgrounds.get(turn.entry.index) else mode

    def messages(self, mode: str, phrase: str, second: str) -> tuple[tuple[str, str], ...]:
        asked = _ASKED[mode].format(phrase=phrase, second=second)
        return (("system", SYSTEM), ("user", f'{asked} The caption must hold the words "{phrase}".'))
