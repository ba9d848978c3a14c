"""conf/ itself: every option composes, every leaf says what it is."""

import re

import pytest

from launch.compose import CONF, Composer, typed
from launch.plan import topological

OPTIONS = [
    (group.name, option.stem) for group in sorted(CONF.iterdir()) if group.is_dir() for option in sorted(group.glob("*.yaml"))
]
LISTS = ("export", "filter")


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_of_every_group_composes_and_fits_its_type(group, option, monkeypatch):
    monkeypatch.delenv("LLAMA_FOLDER", raising=False)
    value = f"[{option}]" if group in LISTS else option
    config = typed(Composer().compose([f"{group}={value}"]))
    assert topological(config.recipe.stages)


def test_every_leaf_has_a_comment_with_its_reason():
    bare = []
    for path in sorted(CONF.rglob("*.yaml")):
        if path.parent.name == "recipe":  # graphs explain themselves at their head
            continue
        for line in path.read_text().splitlines():
            leaf = re.match(r"\s*[\w_]+:\s*\S", line) and not re.match(
                r"\s*(defaults|kind|seed|hydra|id|stop|engine|maker):", line
            )
            if leaf and "#" not in line and "override" not in line:
                bare.append(f"{path.name}: {line}")
    assert not bare


def test_llama_folder_is_the_root_of_metas_downloads(monkeypatch):
    monkeypatch.setenv("LLAMA_FOLDER", "/llama")
    captioner = typed(Composer().compose(["captioner=llama2_13b"])).captioner
    assert (captioner.root, captioner.ckpt_dir, captioner.tokenizer_path) == ("/llama", "llama-2-13b", "tokenizer.model")
