"""conf/ itself: every option composes, every leaf says what it is."""

import re
from itertools import zip_longest

import pytest

from launch.config.compose import CONF, Composer, typed
from launch.plan.graph import topological

LISTS = ("export", "filter")
OPTIONS = {
    group.name: [f"{group.name}=[{o.stem}]" if group.name in LISTS else f"{group.name}={o.stem}" for o in sorted(group.glob("*.yaml"))]
    for group in sorted(CONF.iterdir())
    if group.is_dir()
}
RECIPES = [(recipe,) for recipe in OPTIONS.pop("recipe")]  # alone: a prompt maker adds to the stages of class_images
TOGETHER = [tuple(filter(None, row)) for row in zip_longest(*OPTIONS.values())]  # the n-th of each group: composing is slow


@pytest.mark.parametrize("options", TOGETHER + RECIPES, ids=" ".join)
def test_every_option_of_every_group_composes_and_fits_its_type(options, monkeypatch):
    monkeypatch.delenv("LLAMA_FOLDER", raising=False)
    config = typed(Composer().compose(list(options)))
    assert topological(config.recipe.stages)


def test_every_leaf_has_a_comment_with_its_reason():
    bare = []
    for path in sorted(CONF.rglob("*.yaml")):
        if path.parent.name == "recipe":  # graphs explain themselves at their head
            continue
        for line in path.read_text().splitlines():
            leaf = re.match(r"\s*[\w_]+:\s*\S", line) and not re.match(r"\s*(defaults|kind|seed|hydra|id|stop|engine|maker):", line)
            if leaf and "#" not in line and "override" not in line:
                bare.append(f"{path.name}: {line}")
    assert not bare


def test_llama_folder_is_the_root_of_metas_downloads(monkeypatch):
    monkeypatch.setenv("LLAMA_FOLDER", "/llama")
    captioner = typed(Composer().compose(["captioner=llama2_13b"])).captioner
    assert (captioner.root, captioner.ckpt_dir, captioner.tokenizer_path) == ("/llama", "llama-2-13b", "tokenizer.model")
