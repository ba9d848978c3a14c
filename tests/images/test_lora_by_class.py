"""model.lora_by_class: pictures of each class by its own LoRA, to the bytes that the LoRA draws alone."""

import signal
from dataclasses import replace

import pytest

from synth.errors import EXIT_OK, InputError
from synth.images.config import ClassLora
from synth.images.models import ADAPTER, LORA, MODEL
from synth.images.slots import PerCaption, Together
from synth.store.folder import StageFolder
from synth.store.identity import identity
from synth.store.spec import InputFile
from tests.configs import ModelConfig
from tests.faults.farm import Child
from tests.fixtures_images import CLASSES, IMAGES, captions_json_stage, captions_stage, child, digests, work
from tests.images.loras import make_lora

WEIGHT = 0.7


@pytest.fixture(scope="module")
def loras(tiny_sd, tmp_path_factory):
    """Files of the first two classes; the second changes the text encoder, too."""
    files = [tmp_path_factory.mktemp("loras") / f"{name}.safetensors" for name in CLASSES[:2]]
    for seed, file in enumerate(files):
        make_lora(tiny_sd, file, seed, text=seed == 1)
    return files


def table_in(root) -> StageFolder:
    folder = captions_json_stage(root, [captions_stage(root, [f"{CLASSES[k % 3]} number {k}" for k in range(6)], classes=CLASSES[:3])], 6)
    assert work(folder) == EXIT_OK
    return folder


def drawn_by(root, tiny_sd, files, **model) -> StageFolder:
    """Eighteen pictures, six of each of three classes; files: role -> LoRA."""
    inputs = {role: InputFile(str(path), identity(path)) for role, path in {MODEL: tiny_sd, **files}.items()}
    config = replace(IMAGES, model=ModelConfig("tiny", **model), per_caption=3)
    return child(root, "images", config, {"captions": [table_in(root)]}, 18, 10, 4, inputs)


def by_class(root, tiny_sd, loras) -> StageFolder:
    adapters = tuple(ClassLora(index=i, name=CLASSES[i], weight=WEIGHT, file=i < 2) for i in range(3))
    return drawn_by(root, tiny_sd, {f"{ADAPTER}{i}": file for i, file in enumerate(loras)}, adapters=adapters)


@pytest.fixture(scope="module")
def once(tiny_sd, loras, tmp_path_factory):
    folder = by_class(tmp_path_factory.mktemp("once"), tiny_sd, loras)
    assert work(folder) == EXIT_OK
    return folder


def pictures(folder, label) -> dict:
    """(caption, replica) -> PNG of the pictures of a class."""
    told = [(s.json(), s.read("png")) for s in folder.samples()]
    return {(record["caption"], record["replica"]): png for record, png in told if record["label"] == label}


@pytest.mark.parametrize("label", [0, 1, 2])
def test_a_class_has_the_bytes_that_its_lora_draws_alone(label, once, tiny_sd, loras, tmp_path):
    alone = {"files": {f"{LORA}0": loras[label]}, "loras": (WEIGHT,)} if label < 2 else {"files": {}}
    other = drawn_by(tmp_path, tiny_sd, **alone)
    assert work(other) == EXIT_OK
    assert len(pictures(once, label)) == 6 and pictures(once, label) == pictures(other, label)
    assert not set(pictures(once, (label + 1) % 3).values()) & set(pictures(other, (label + 1) % 3).values())


def test_metadata_names_the_lora_of_each_picture(once, loras):
    told = [s.json() for s in once.samples()]
    assert [r["label"] for r in told] == [0] * 6 + [1] * 6 + [2] * 6, "pictures of one class lie behind each other"
    assert told[0]["adapter"] == {"class": CLASSES[0], "digest": identity(loras[0]), "weight": WEIGHT}
    assert told[17]["adapter"] is None and told[0]["model_parts"] == {}


def test_units_have_the_same_bytes_for_any_number_of_jobs_and_after_a_kill(once, tiny_sd, loras, tmp_path):
    shared = by_class(tmp_path / "shared", tiny_sd, loras)
    assert [work(shared, i, 3) for i in (2, 0, 1)] == [EXIT_OK] * 3
    killed = by_class(tmp_path / "killed", tiny_sd, loras)
    # behind batch 2 of unit 0, whose slots 6 and 7 were drawn in one call with 8 and 9
    assert Child(killed, env={}, fault="after_batch:kill@2").wait(240) == -signal.SIGKILL
    assert work(killed) == EXIT_OK
    assert digests(killed) == digests(shared) == digests(once)


def test_loras_come_and_go_without_a_trace(tiny_sd, loras, tmp_path):
    import torch
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import load_file, save_file

    from synth.images.loras import Adapter, Adapters

    broken = {name.replace("mid_block", "elsewhere"): tensor for name, tensor in load_file(loras[0]).items()}
    save_file(broken, tmp_path / "odd.safetensors")
    pipe = StableDiffusionPipeline.from_pretrained(tiny_sd, torch_dtype=torch.bfloat16)

    def weights():
        return {n: p.data.clone() for part in (pipe.unet, pipe.text_encoder) for n, p in part.named_parameters()}

    files = {0: loras[0], 1: loras[1], 2: tmp_path / "odd.safetensors"}
    adapters, before = Adapters(pipe, {i: Adapter(file, WEIGHT) for i, file in files.items()}), weights()
    assert adapters.use(0) and not adapters.use(0)
    first = weights()
    assert any((first[n] != before[n]).any() for n in before)
    for which in (1, 0, 1, None, 1, 0):
        adapters.use(which)
    assert weights().keys() == before.keys() and all((w == first[n]).all() for n, w in weights().items())
    with pytest.raises(InputError, match=r"model\.lora_by_class: .*odd\.safetensors"):
        adapters.use(2)
    assert all((w == before[n]).all() for n, w in weights().items()), "a LoRA that does not fit leaves nothing behind"


def test_slots_of_a_class_lie_behind_each_other_and_those_without_a_caption_are_last():
    table = Together(PerCaption(replace(IMAGES, per_caption=2)), 8, labels=[5, 2, 5])
    assert [(table.place(s).row, table.place(s).replica) for s in range(8)] == [
        (1, 0),
        (1, 1),
        (0, 0),
        (0, 1),
        (2, 0),
        (2, 1),
        (3, 0),
        (3, 1),
    ]
