"""Sample configs: what stage.json stores is what the worker reads, and anything else is named."""

import dataclasses
import json
from collections.abc import Mapping

import pytest

from synth.captions.config import ClassEntry
from synth.errors import InputError
from synth.keys import WrongKey, check, dump, key, of_group
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


# -- ranges ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lane:
    weight: float = key("", low=0, high=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy:
    scale: tuple[float, ...] = key("", low=0.05, high=20, span=True)
    numbers: tuple[int, ...] = key("", low=1)
    lanes: tuple[Lane, ...] = key("")
    parts: Mapping[str, Lane] = key("")


TOY = Toy(scale=(0.5, 2), numbers=(1, 2), lanes=(Lane(weight=0), Lane(weight=1)), parts={"a": Lane(weight=0.5)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scale": (2, 1)}, "toy.scale=[2, 1]: must be [low, high], both from 0.05 to 20"),
        ({"scale": (0.01, 1)}, "toy.scale=[0.01, 1]: must be"),
        ({"scale": (1,)}, "toy.scale=[1]: must be"),
        ({"scale": (1, 2, 3)}, "toy.scale=[1, 2, 3]: must be"),
        ({"scale": (float("nan"), 1)}, "toy.scale=[nan, 1]: must be"),
        ({"numbers": (1, 0)}, "toy.numbers=[1, 0]: must be 1 or more"),
        ({"lanes": (Lane(weight=0), Lane(weight=2))}, "toy.lanes[1].weight=2: must be from 0 to 1"),
        ({"parts": {"a": Lane(weight=-1)}}, "toy.parts.a.weight=-1: must be from 0 to 1"),
    ],
)
def test_a_value_out_of_its_range_is_named_with_its_path(change, said):
    check(TOY, "toy")
    with pytest.raises(WrongKey) as e:
        check(dataclasses.replace(TOY, **change), "toy")
    assert str(e.value).startswith(said)


def test_a_key_s_group_is_added_by_whoever_knows_it_and_once():
    with pytest.raises(WrongKey, match=r"^img2img\.steps=0: too few; use more$"), of_group("images"), of_group("img2img"):
        raise WrongKey("steps", 0, "too few", "use more")
    assert str(WrongKey("height", 20, "no").called("bucket").of("tracking")) == "tracking.bucket=20: no"


def test_a_null_that_planning_did_not_fill_is_never_stored():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config:
        side: int = key("pixels", low=1, null="the model's own")
        votes: int = key("votes", low=1, null="all", sparse=True)

    assert dump(Config(side=3, votes=None)) == {"side": 3}
    with pytest.raises(TypeError, match="Config: side: null is to be filled"):
        dump(Config(side=None, votes=2))
