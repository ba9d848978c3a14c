"""The prompt files of GenCL (name-only continual learning, arXiv 2403.10853), read and written.

metaprompts  ["A photo of [concept].", ...]
static       {"metaprompts": [{"index": 0, "metaprompt": "...", "prompts": [{"index": 0, "content": "... [concept] ..."}]}]}
dynamic      {class: {"metaprompts": [as above, the class's own words in place of [concept]]}, ...}
"""

from collections.abc import Iterable, Mapping
from typing import Any

from synth.errors import InputError

CONCEPT = "[concept]"


def is_static(data: Any) -> bool:
    return isinstance(data, Mapping) and isinstance(data.get("metaprompts"), list)


def is_dynamic(data: Any) -> bool:
    return isinstance(data, Mapping) and bool(data) and all(is_static(tree) for tree in data.values())


def static_texts(data: Mapping, where: str) -> list[str]:
    """The contents of a static file, in order."""
    texts = []
    for n, tree in enumerate(data["metaprompts"]):
        items = tree.get("prompts") if isinstance(tree, Mapping) else None
        if not isinstance(items, list):
            raise InputError(f'{where}: metaprompts[{n}] needs a list "prompts"')
        for k, item in enumerate(items):
            content = item.get("content") if isinstance(item, Mapping) else None
            if not isinstance(content, str):
                raise InputError(f'{where}: metaprompts[{n}].prompts[{k}] needs a text "content"')
            texts.append(content)
    return texts


def dynamic_texts(data: Mapping, where: str) -> list[tuple[str, str]]:
    """(class key, content) of a dynamic file, class by class."""
    return [(key, text) for key, tree in data.items() for text in static_texts(tree, f"{where}: {key}")]


def metaprompt_texts(data: Any, where: str) -> list[str]:
    """The texts of a metaprompt file: a flat list, or the metaprompts of a static file. Each must hold [concept]."""
    if is_static(data):
        data = [tree.get("metaprompt") if isinstance(tree, Mapping) else None for tree in data["metaprompts"]]
    if not isinstance(data, list) or not data:
        raise InputError(f"{where}: needs a list of texts, one at least, each with {CONCEPT} for the class")
    for n, text in enumerate(data):
        if not isinstance(text, str) or CONCEPT not in text or "\n" in text:
            raise InputError(f"{where}: text {n} is {text!r}; it must be one line that holds {CONCEPT}")
    return data


def tree(metaprompts: Iterable[tuple[str, Iterable[str]]]) -> dict:
    """The one form of both files: (metaprompt, its prompts) in order."""
    return {
        "metaprompts": [
            {"index": n, "metaprompt": metaprompt, "prompts": [{"index": k, "content": text} for k, text in enumerate(prompts)]}
            for n, (metaprompt, prompts) in enumerate(metaprompts)
        ]
    }
