"""External models at plan time: what a command becomes, and what is refused before anything is queued."""

import pytest
from PIL import Image

from launch.plan.models import patience_of, plan_model
from synth.errors import InputError
from synth.keys import dump
from synth.store.identity import identity
from tests.launch.plan.test_model_plans import EMPTY, filled, model_of, planned


@pytest.fixture
def script(tmp_path):
    file = tmp_path / "draw it.py"
    file.write_text("print('hello')")
    return file


def test_words_that_name_files_are_known_by_what_is_in_them(script, tmp_path):
    words = f"model.command=[/usr/bin/env,python,'{script}','{{model}}','--style=a b']"
    found = planned("model=external", words, f"model.path='{tmp_path}'")
    assert found.config.command == ("/usr/bin/env", "python", "{model_command_2}", "{model}", "--style=a b")
    assert found.inputs["model_command_2"].identity == identity(script) and set(found.inputs) == {"model", "model_command_2"}
    assert filled(found, EMPTY) == {"height": 256, "width": 256, "steps": 50, "scheduler": "default", "guidance_scale": 4.0}
    assert found.config.id == "external" and not found.config.deterministic


def test_patience_is_a_setting_and_no_part_of_the_model(script):
    words = ["model=external", f"model.command=[python,'{script}']"]
    patient, other = (model_of(*words, f"model.timeout={s}") for s in (5, 6))
    assert patience_of(patient) == {"timeout": 5.0, "start_timeout": 1800.0, "restarts": 3}
    assert dump(plan_model(patient).config) == dump(plan_model(other).config)
    assert patience_of(model_of("model=tiny")) == {}
    with pytest.raises(InputError, match=r"model\.restarts=-1"):
        planned(*words, "model.restarts=-1")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=external"], "model.command: not set"),
        (["model=external", "model.command=[]"], "model.command: not set"),
        (["model=external", "model.command=['']"], "model.command: not set"),
        (["model=external", "model.command=[x,'{model}']"], "{model} needs model.path"),
        (["model=external", "model.command=[x,'{port}']", "model.path=/tmp"], "{port} is not known; there is {model}"),
        (["model=external", "model.command=[x,'{']"], "braces that are meant as such are doubled"),
        (["model=external", "model.command=[x]", "model.path=/no/such"], "model.path: /no/such is not there"),
        (["model=external", "model.command=[x]", "model.lora=a.safetensors"], "model.lora: a command has none"),
        (["model=external", "model.command=[x]", "model.safety_checker=grey"], "use one of off, blank"),
        (["model=sd15", "model.pipeline=external"], "use model=external model.command="),
    ],
)
def test_what_cannot_be_is_said_with_its_key(overrides, said):
    with pytest.raises(InputError) as e:
        planned(*overrides)
    assert said in str(e.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["recipe=noise_denoise", "img2img.source=PICTURES", "img2img.prompt_template=toys"],
            "a command draws from a prompt alone",
        ),
        (["images.scheduler=ddim"], "images.scheduler=ddim: does not fit external"),
        (["images.guidance_interval=[0.2,0.8]"], "images.guidance_interval"),
        (["model.safety_checker=drop"], "model.safety_checker=drop: external has none; use off"),
        (["model.text_offload=true"], "model.text_offload=true"),
    ],
)
def test_keys_that_a_command_does_not_know_are_refused_when_the_run_is_planned(overrides, said, world, script, tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "a.png")
    overrides = [o.replace("PICTURES", str(tmp_path / "pictures")) for o in overrides]
    with pytest.raises(InputError) as e:
        world.point("model=external", f"model.command=[python,'{script}']", *overrides)
    assert said in str(e.value)
