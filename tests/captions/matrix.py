"""What each prompt maker needs to run on three classes of the embedded dataset: for tests of makers with engines."""

import json
from pathlib import Path

CLASSES = ("apple", "banana", "strawberry")
DATASET = ("dataset=pictures", "dataset.classes=0..2")
ASKING = ("synclr", "synclr_chat", "synthclip", "hirpg")  # makers that ask a model
SILENT = ("class_name", "fake_it", "fake_definition", "from_file")
MAKERS = ASKING + SILENT


def prompts_overrides(maker: str, folder: Path) -> list[str]:
    """Hydra overrides that run a maker on DATASET, six captions at most. Files that it needs are written into `folder`."""
    common = [*DATASET, f"prompts={maker}", "captions.unit_size=6", "captions.window=6"]
    if maker in ("synclr", "synclr_chat", "synthclip"):
        more = ["captions.total=6", "captions.oversample=1", "captions.allow_short=true"]
        return common + more + (["prompts.num_backgrounds=4"] if maker == "synclr_chat" else [])
    if maker == "hirpg":
        return [
            *common,
            "prompts.num_metaprompts=4",
            "prompts.num_prompts_per_metaprompt=2",
            "prompts.max_prompts=6",
            "captions.per_class=2",
            "captions.allow_short=true",
        ]
    if maker == "class_name":
        templates = _file(folder / "templates.txt", "a photo of one {}\na drawing of one [concept]\n")
        return [*common, f"prompts.templates_file={templates}", "captions.per_class=2"]
    if maker == "fake_it":
        return [*common, "prompts.source=table", "captions.per_class=2"]
    if maker == "fake_definition":
        texts = json.dumps({name: f"a kind of fruit that starts with {name[0]}" for name in CLASSES})
        return [*common, f"prompts.definitions_file={_file(folder / 'definitions.json', texts)}"]
    if maker == "from_file":
        lines = "".join(f"Picture {n} shows one {name}. => {name}\n" for n in (1, 2) for name in CLASSES)
        return [*common, f"prompts.file={_file(folder / 'own.txt', lines)}"]
    raise ValueError(maker)


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
