"""What a command in the place of a model needs: all that is missing in one message, with what brings it, before anything is queued."""

from pathlib import Path

import pytest

from launch.config.compose import CONF
from launch.plan.programs import check_there
from synth.errors import InputError
from tests.launch.plan.test_model_plans import model_of, planned

ROOT = Path(__file__).parents[3]
WORDS = "model.command=[sh,draw.sh,'{model}']"


@pytest.fixture
def weights(tmp_path):
    """All that model=cogview2 asks for."""
    folder = tmp_path / "cogview2"
    for name in model_of("model=cogview2").files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1")
    return folder


def why(*overrides: str) -> str:
    with pytest.raises(InputError) as e:
        planned("model=cogview2", *overrides)
    return str(e.value)


def test_all_that_cogview2_lacks_is_told_at_once_with_what_brings_it(weights):
    assert why() == (
        "model cogview2: model.command is not set; it starts a program in an environment of its own, made by: "
        "sh containers/cogview2/build.sh docker; model.path is not set; it must name the folder of its weights, fetched by: "
        "python containers/cogview2/fetch.py DIR"
    )
    (weights / "icetk_models" / "ice_image.pt").write_text("")  # a fetch that broke off
    (weights / "coglm" / "latest").unlink()
    said = why(f"model.path={weights}", "model.command=[sh,draw.sh,/no/such.sif,'{model}']")
    assert "model.command: /no/such.sif is not there, made by: sh containers/" in said
    assert f"{weights} lacks coglm/latest, icetk_models/ice_image.pt, fetched by: python containers/cogview2/fetch.py {weights}" in said
    assert "model.command: /no/python is not there" in why(f"model.path={weights}", "model.command=[/no/python,adapter.py]")
    assert "model.command: no-such-runtime is not installed here" in why(f"model.path={weights}", "model.command=[no-such-runtime,x]")


def test_what_brings_it_lies_where_it_is_said_to_lie():
    model = model_of("model=cogview2")
    for words in (model.setup.split(), model.fetch.split()):
        assert (ROOT / words[1]).is_file()
    text = (CONF / "model" / "cogview2.yaml").read_text()
    assert (ROOT / "containers" / "cogview2" / "draw.sh").is_file() and "containers/cogview2/draw.sh" in text


def test_a_command_of_any_environment_is_planned_where_all_is_there(weights, tmp_path):
    found = planned("model=cogview2", WORDS, f"model.path={weights}")
    assert found.config.id == "cogview2" and found.config.command == ("sh", "draw.sh", "{model}") and set(found.inputs) == {"model"}
    check_there(model_of("model=external", "model.command=[module-of-compute-nodes,x]"))  # nothing is said of what it needs
    (tmp_path / "no.sif").write_text("")
    check_there(model_of("model=external", f"model.command=[apptainer,exec,{tmp_path}/no.sif]"))
    check_there(model_of("model=external", "model.command=[/opt/python-of-the-image,/no.sif]"))  # it may run elsewhere


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["images.steps=50"], "images.steps=50: cogview2 has no use for it (model.unused); leave it at 1"),
        (["images.guidance_scale=4"], "images.guidance_scale=4: cogview2 has no use for it (model.unused); leave it at 1.0"),
        (["images.negative_prompt=blur"], "images.negative_prompt=blur: cogview2 has no use for it (model.unused); leave it at ''"),
        (["model.unused=[sharpness]"], "model.unused=[sharpness]: use one of steps, guidance_scale, negative_prompt"),
    ],
)
def test_keys_of_drawing_that_it_does_not_have_are_refused_by_name(overrides, said, world, weights):
    with pytest.raises(InputError) as e:
        world.point("model=cogview2", WORDS, f"model.path={weights}", *overrides)
    assert said in str(e.value)


def test_without_them_it_draws_what_it_draws(world, weights):
    spec = next(s.spec for s in world.point("model=cogview2", WORDS, f"model.path={weights}").stages if s.spec.kind == "images")
    drawn = {k: spec.config[k] for k in ("height", "width", "steps", "guidance_scale")}
    assert drawn == {"height": 480, "width": 480, "steps": 1, "guidance_scale": 1.0}
