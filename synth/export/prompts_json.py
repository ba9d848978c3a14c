"""Prompt files as GenCL's tools read them, from a stage: python -m synth.export.prompts_json STAGE_DIR OUT.json

metaprompts stage    the list of metaprompts (static form), or {class: [..]}
prompt_trees stage   the static form, {"metaprompts": [..]}, or the dynamic one, {class: {"metaprompts": [..]}}
captions stage       the dynamic form of any prompt maker's captions, under one metaprompt called "dummy"
backgrounds stage    {class: [place, ..]}, which prompts.backgrounds_file reads again
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from synth.captions.prompts import gencl
from synth.captions.prompts.hirpg import trees_of
from synth.captions.records import records_of
from synth.errors import EXIT_OK, InputError, tool
from synth.kinds import config_of
from synth.store.files import make_folder, write_atomic
from synth.store.folder import StageFolder


def prompts_json(folder: StageFolder) -> list | dict:
    """What the file of a stage holds. The stage must be whole."""
    if folder.spec.kind not in _FORMS:
        raise InputError(f"{folder.path}: is of kind {folder.spec.kind}; prompts are read from {', '.join(_FORMS)}")
    if missing := folder.missing():
        raise InputError(
            f"{folder.path}: {len(missing)} of its {folder.spec.n_units} units are missing; run the command that makes it again"
        )
    return _FORMS[folder.spec.kind](folder, [r for _, r in records_of(folder) if not isinstance(r, str)])


def _metaprompts(folder: StageFolder, records: list) -> list | dict:
    texts: dict[int, list[str]] = {}
    for record in records:
        texts.setdefault(record["subject"], []).append(record["text"])
    return _by_subject(folder, texts)


def _trees(folder: StageFolder, records: list) -> list | dict:
    return _by_subject(
        folder,
        {key: gencl.tree((text, [text, *below]) for text, below in trees.values()) for key, trees in trees_of(records).items()},
    )


def _captions(folder: StageFolder, records: list) -> dict:
    captions: dict[int, list[str]] = {c.index: [] for c in config_of(folder).dataset.classes}
    for record in records:
        captions[record["label"]].append(record["caption"])
    return _by_subject(folder, {key: gencl.tree([("dummy", texts)]) for key, texts in captions.items()})


def _backgrounds(folder: StageFolder, records: list) -> dict:
    return _by_subject(folder, {record["label"]: record["backgrounds"] for record in records})


def _by_subject(folder: StageFolder, values: dict[int, object]):
    """The only value of the static form, else by class: its name, or its index where two classes have one name."""
    if set(values) == {-1}:
        return values[-1]
    classes = config_of(folder).dataset.classes
    twice = {name for name, n in Counter(c.name for c in classes).items() if n > 1}
    keys = {c.index: str(c.index) if c.name in twice else c.name for c in classes}
    return {keys[index]: value for index, value in values.items()}


_FORMS = {"metaprompts": _metaprompts, "prompt_trees": _trees, "captions": _captions, "backgrounds": _backgrounds}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m synth.export.prompts_json", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("stage", type=Path, help="folder of a whole stage: runs/<dataset>/<stage>-<fingerprint>")
    parser.add_argument("out", type=Path, help="the JSON file; replaced if it is there")
    args = parser.parse_args(argv)
    return tool(lambda: _write(args.stage, args.out))


def _write(stage: Path, out: Path) -> int:
    data = prompts_json(StageFolder.open(stage))
    make_folder(out.parent)
    write_atomic(out, json.dumps(data, ensure_ascii=False, indent=4).encode("utf-8", "replace") + b"\n")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
