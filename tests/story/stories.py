"""Planned story stages on a short text and a tiny model with random weights."""

import json
from pathlib import Path

from launch.config.compose import Composer, typed
from launch.plan.graph import plan_point
from synth.store.folder import StageFolder
from tests.fixtures_images import work

TEXT = "front\nPart 1\na red fox\n\na blue door\na third thing\nPart 2\nan old tree\nthe end\nPart 3\na lake\na hill\na boat\na star\n"
STYLES = [
    {"style": "in oil", "file_tag": "oil", "weight": 0.75},
    {"style": "in ink", "file_tag": "ink", "weight": 0.75},
    {"style": "in clay", "file_tag": "oil", "weight": 0.5},
    {"style": "as it was", "file_tag": "same", "weight": 0.2},  # int(4 * 0.2) = 0 steps
]
SETTINGS = [
    "recipe=story", "export=[]", "images.height=16", "images.width=16", "images.steps=4", "images.guidance_scale=2",
    "story.prompt_config.key=tale",
    'story.prompt_config.chapter_split_regex="Part \\d+"',
]  # fmt: skip


def source(folder: Path, text: str = TEXT, styles=STYLES) -> list[str]:
    """Overrides that name a text and a set of styles, which are written below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tale.txt").write_text(text, encoding="utf-8")
    (folder / "styles.json").write_text(json.dumps(styles), encoding="utf-8")
    return [f"story.prompt_config.source={folder}/tale.txt", f"story.style_configs_file={folder}/styles.json"]


def point(runs: Path, model: Path, *overrides: str):
    given = [] if any(o.startswith("story.prompt_config.source=") for o in overrides) else source(runs / "in")
    return plan_point(typed(Composer().compose([*SETTINGS, *given, f"runs_dir={runs}", f"model.path={model}", *overrides])))


def planned(runs: Path, model: Path, *overrides: str) -> list[StageFolder]:
    return [StageFolder.create(s.dataset_root, s.spec) for s in point(runs, model, *overrides).stages]


def done(runs: Path, model: Path, *overrides: str) -> list[StageFolder]:
    """The stages of a run, worked off in this process."""
    folders = planned(runs, model, *overrides)
    for folder in folders:
        assert work(folder) == 0, folder.path
    return folders
