"""Sample configs: what stage.json stores is what the worker reads, and anything else is named."""

import json

import pytest

from synth.captions.config import ClassEntry
from synth.errors import InputError
from synth.keys import dump
from synth.kinds import KINDS, load
from tests.configs import CaptionerConfig, CaptionsConfig, DatasetConfig, ImagesConfig, ModelConfig, ProbeConfig, PromptsConfig

CLASSES = (ClassEntry(0, 'a "b" / c\\d', "animal"), ClassEntry(7, "naïve 日本"))
CAPTIONS = CaptionsConfig(3, DatasetConfig("d", CLASSES, 20), PromptsConfig(), CaptionerConfig())
PROBE = dump(ProbeConfig(behaviour={"3": {"sleep": 0.5, "raise": "bug"}}))


@pytest.mark.parametrize(
    ("kind", "config"), [("captions", CAPTIONS), ("images", ImagesConfig(0, ModelConfig("m"))), ("probe", load("probe", PROBE))]
)
def test_a_config_comes_back_from_json_as_it_was(kind, config):
    assert load(kind, json.loads(json.dumps(dump(config)))) == config


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        ({"sise": 3}, "unknown keys ['sise']"),
        ({"size": "64"}, "probe.size: expected int, got '64'"),
        ({"size": True}, "probe.size: expected int, got True"),
        ({"size": 1.5}, "probe.size: expected int, got 1.5"),
        ({"size": None}, "probe.size: expected int, got None"),
        ({"sleep": "1"}, "probe.sleep: expected float"),
        ({"framing": 3}, "probe.framing: expected str"),
        ({"behaviour": ["x"]}, "probe.behaviour: expected a mapping"),
        ({"behaviour": {"3": "sleep"}}, "probe.behaviour.3: expected a mapping"),
    ],
)
def test_a_wrong_key_or_type_is_named_with_its_path(edit, named):
    with pytest.raises(InputError) as e:
        load("probe", PROBE | edit)
    assert named in str(e.value)


def test_missing_keys_and_wrong_shapes_deep_inside_are_named():
    data = dump(CAPTIONS)
    with pytest.raises(InputError, match=r"captions\.dataset\.classes\[1\]: unknown keys \[\], missing keys \['index'\]"):
        load("captions", data | {"dataset": data["dataset"] | {"classes": [data["dataset"]["classes"][0], {"name": "x"}]}})
    for wrong in ("cat", 3, None, {"0": "cat"}):
        with pytest.raises(InputError, match=r"captions\.dataset\.classes"):
            load("captions", data | {"dataset": data["dataset"] | {"classes": wrong}})
    with pytest.raises(InputError, match=r"captions: unknown keys \[\], missing keys \['dataset'\]"):
        load("captions", {k: v for k, v in data.items() if k != "dataset"})
    with pytest.raises(InputError, match="captions: expected a mapping, got list"):
        load("captions", [])


def test_whole_numbers_are_fine_where_a_float_is_wanted():
    config = load("probe", PROBE | {"sleep": 1})
    assert config.sleep == 1.0 and isinstance(config.sleep, float)


def test_an_unknown_kind_is_named_with_the_known_ones():
    with pytest.raises(InputError, match=r"'nonesuch'; known: .*captions.*probe"):
        load("nonesuch", {})
    assert "probe" in KINDS
