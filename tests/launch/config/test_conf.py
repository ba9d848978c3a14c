"""conf/ itself: every option composes, every leaf says what it is."""

import re
from itertools import zip_longest

import pytest

from launch.config.compose import CONF, Composer, typed
from launch.config.root import GROUPS, LISTS, Config
from launch.plan.graph import topological
from synth.keys import documented

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


def declared(path) -> dict:
    """Dotted key -> what its declaration says, of the keys that a YAML file gives values to."""
    if path.name == "config.yaml":
        return dict(documented(Config))
    group, option = path.parent.name, path.stem
    return dict(documented(GROUPS[group].get(option, GROUPS[group].get(group)).config_class))


def leaves(text: str):
    """(dotted key, comment) of each line `key: value  # comment` of a YAML file."""
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        if not (m := re.match(r"( *)([\w]+):(?: +([^#\s].*?))?(?: +# (.*))?$", line)):
            continue
        indent, name, value, comment = len(m[1]), m[2], m[3], m[4]
        path = [p for p in path if p[0] < indent] + [(indent, name)]
        if value is not None:
            yield ".".join(n for _, n in path), comment


# presets say why of their values
DECLARED = (
    "config.yaml",
    "filter/*.yaml",
    "export/*.yaml",
    "tagger/*.yaml",
    "detector/*.yaml",
    "segmenter/*.yaml",
    "box_captioner/*.yaml",
    "cluster/local.yaml",
    "cluster/slurm.yaml",
)


@pytest.mark.parametrize("path", [p for pattern in DECLARED for p in sorted(CONF.glob(pattern)) if p.stem != "none"], ids=lambda p: p.stem)
def test_a_comment_says_what_the_declaration_of_its_key_says(path):
    keys = declared(path)
    different = [
        f"{path.name}: {key}: write  # {keys[key].text}"
        for key, comment in leaves(path.read_text())
        if key in keys and key != "kind" and (comment or "") != keys[key].text
    ]
    assert not different, "\n".join(different)
