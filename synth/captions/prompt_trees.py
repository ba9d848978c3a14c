"""Stage kind `prompt_trees`: hirpg's second level. A tree's slots: its metaprompt, then num_prompts_per_metaprompt prompts.

A batch holds whole trees, which advance side by side; within a tree each request shows all prompts before it. What two trees
say alike is left to the captions, which see all trees.
"""

from synth.captions.asking import Asking, Dialogue
from synth.captions.config import AskConfig
from synth.captions.metaprompts import written
from synth.captions.prompts import hirpg
from synth.captions.prompts.hirpg import Subject
from synth.errors import InputError


class PromptTrees(Asking):
    config: AskConfig

    def check(self) -> None:
        self.trees = hirpg.subject_trees(self.config.dataset, self.config.prompts)
        self.size = 1 + self.config.prompts.num_prompts_per_metaprompt
        self.metaprompts: dict[int, dict[int, str]] = {}  # subject -> number -> text
        for _, record in self.records("metaprompts"):
            if not isinstance(record, str):
                self.metaprompts.setdefault(record["subject"], {})[record["tree"]] = record["text"]
        super().check()

    def compute(self, state, slots: range) -> list[tuple[int, dict | str]]:
        if slots.start % self.size or slots.stop % self.size:
            what = f"1 + prompts.num_prompts_per_metaprompt = {self.size}"
            raise InputError(f"{self.folder.path}: unit_size and batch must be multiples of {what}")
        trees = [self.trees[first // self.size] for first in range(slots.start, slots.stop, self.size)]
        answers = self.ask([self._tree(subject, number) for subject, number in trees])
        return list(zip(slots, (result for results in answers for result in results), strict=True))

    def _tree(self, subject: Subject, number: int) -> Dialogue[list[dict | str]]:
        known = self.metaprompts.get(subject.key, {})
        if number not in known:
            self.refused.update({"no_metaprompt": self.size, "left empty": self.size})
            return ["no_metaprompt"] * self.size
        root = {"subject": subject.key, "word": subject.word, "tree": number, "text": known[number], "kind": "metaprompt"}
        numbers = sorted(known)
        shown = hirpg.context(self.config.seed, subject, [known[n] for n in numbers], numbers.index(number))
        results: list[dict | str] = [root]
        for k in range(self.size - 1):
            path = ("prompt_trees", subject.key, number)
            result = yield from written(self, subject, k, shown, self.config.prompts.max_words, path)
            if not isinstance(result, str):
                shown.append(result["text"])
                result |= {"kind": "prompt", "tree": number, "number": k}
            results.append(result)
        return results
