"""A tiny random Stable Diffusion folder of diffusers' own classes, and stages planned on made-up captions."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from synth.captions.config import ClassEntry
from synth.images.models import inspect_model, judge
from synth.keys import dump, of_group
from synth.kinds import framing_of, stage_class
from synth.numerics import EXACT, environment
from synth.seeds import derive
from synth.store.folder import StageFolder
from synth.store.framing import UnitIndex, frame, seal
from synth.store.identity import identity
from synth.store.samples import Sample, Tombstone
from synth.store.spec import InputFile, StageSpec, Upstream, canonical
from tests.configs import CaptionerConfig, CaptionsConfig, CaptionsJsonConfig, DatasetConfig, ImagesConfig, ModelConfig, PromptsConfig

os.environ.update(environment(EXACT))  # one thread, as in a worker: bytes are compared with workers' bytes
CLASSES = ("red panda", "bullet train", "crane", 'say "cheese"', "crane")


def judged(paths: dict, config, img2img: bool = False, group: str = "images"):
    """The folder of a model, judged as a stage of `group` is when it is planned."""
    model = inspect_model(paths, config.model)
    with of_group(group):
        judge(model, config, img2img)
    return model


def build_tiny_sd(path: Path, size: int = 32) -> Path:
    """Save a random StableDiffusionPipeline of about 0.4 M parameters that draws `size` pixels (VAE factor 2)."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    vocab = letters + [c + "</w>" for c in letters] + ["<|startoftext|>", "<|endoftext|>"]
    path.mkdir(parents=True)
    (path / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocab)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(path / "vocab.json"), str(path / "merges.txt"), model_max_length=77)
    torch.manual_seed(0)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=37, num_hidden_layers=2, num_attention_heads=4,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=size // 2, in_channels=4, out_channels=4, block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=8,
        cross_attention_dim=32, attention_head_dim=8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(16, 16), norm_num_groups=8, latent_channels=4, sample_size=size,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    pipe = StableDiffusionPipeline(vae, CLIPTextModel(text), tokenizer, unet, scheduler, None, None, requires_safety_checker=False)
    pipe.save_pretrained(path)
    for name in ("vocab.json", "merges.txt"):
        (path / name).unlink()
    return path


def commit_units(folder: StageFolder, results: list[Sample | Tombstone]) -> None:
    """Put finished results into a stage's units without a worker; their inputs are those that a worker would note."""
    stage = stage_class(folder.spec.kind)(folder)
    for number in range(folder.spec.n_units):
        unit = folder.unit(number)
        batch = frame(folder.framing, results[unit.start : unit.stop])
        end, _ = seal(
            folder.framing,
            UnitIndex(number, unit.start, len(unit), batch.entries, dict(batch.tombstones), stage.unit_inputs(unit)),
            len(batch.data),
        )
        folder.unit_path(number).parent.mkdir(parents=True, exist_ok=True)
        folder.unit_path(number).write_bytes(batch.data + end)


def captions_stage(root: Path, captions: list, seed: int = 0, classes=CLASSES, unit_size: int = 8, official: int = 0) -> StageFolder:
    """A whole captions stage. An item: a caption, a dict of further fields, or None or {"left_empty": reason} for a tombstone.

    official: classes of the list that these are the first of, if there are more.
    """
    data = DatasetConfig("toys", tuple(ClassEntry(i, n) for i, n in enumerate(classes)), official or len(classes))
    config = dump(CaptionsConfig(seed, data, PromptsConfig(), CaptionerConfig()))
    folder = StageFolder.create(root, StageSpec("captions", "captions", config, len(captions), unit_size, 4, EXACT, framing="jsonl"))
    results = []
    for slot, item in enumerate(captions):
        if item is None:
            item = {"left_empty": "names another class"}
        if isinstance(item, dict) and "left_empty" in item:
            results.append(Tombstone(slot, item["left_empty"]))
            continue
        more = item if isinstance(item, dict) else {"caption": item}
        label = slot % len(classes)
        record = {
            "class": classes[label],
            "label": label,
            "mode": "class",
            "prompt": "p",
            "seed": derive(seed, "captions", slot, 0),
        }
        record |= {"attempt": 0, "engine": "none", "slot_key": slot} | more
        results.append(Sample(slot, f"{slot:09d}", {"json": canonical(record)}))
    commit_units(folder, results)
    return folder


def child(
    root: Path,
    kind: str,
    config,
    upstream: dict,
    slots: int = 1,
    unit_size: int = 1,
    batch: int = 1,
    inputs=None,
    numerics=EXACT,
    run=None,
) -> StageFolder:
    """A planned stage beside its upstreams. run: settings that change no byte."""
    ups = {role: tuple(Upstream(f"../{f.path.name}", f.spec.fingerprint) for f in folders) for role, folders in upstream.items()}
    return StageFolder.create(
        root,
        StageSpec(
            kind, kind, dump(config), slots, unit_size, batch, numerics, ups, inputs or {}, settings=run or {}, framing=framing_of(kind, {})
        ),
    )


def captions_json_stage(root: Path, captions: list[StageFolder], total: int, **config) -> StageFolder:
    return child(root, "captions_json", CaptionsJsonConfig(total, **config), {"captions": captions})


IMAGES = ImagesConfig(seed=3, model=ModelConfig("tiny"), steps=2, guidance_scale=2.0, height=16, width=16)


def images_stage(
    root: Path,
    table: StageFolder,
    model: Path,
    slots: int,
    unit_size: int = 4,
    batch: int = 4,
    numerics=EXACT,
    run=None,
    **config,
) -> StageFolder:
    inputs = {"model": InputFile(str(model), identity(model))}
    return child(root, "images", replace(IMAGES, **config), {"captions": [table]}, slots, unit_size, batch, inputs, numerics, run)


def work(folder: StageFolder, job_idx: int = 0, n_jobs: int = 1) -> int:
    """The real worker, in this process; its exit code."""
    from synth.run.loop import Worker

    return Worker(folder, job_idx, n_jobs).run()


def digests(folder: StageFolder) -> dict[int, str]:
    """unit -> sha256 of its file; each must be there. That of its index says nothing of the member `__unit__/digests`."""
    return {u: hashlib.sha256(folder.unit_path(u).read_bytes()).hexdigest() for u in range(folder.spec.n_units)}


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory) -> Path:
    return build_tiny_sd(tmp_path_factory.mktemp("models") / "tiny_sd")


@pytest.fixture
def table(tmp_path) -> StageFolder:
    """A whole captions_json stage of ten captions over five classes."""
    root = tmp_path / "runs" / "toys"
    folder = captions_json_stage(root, [captions_stage(root, [f"a picture of {CLASSES[k % 5]} number {k}" for k in range(10)])], 10)
    assert work(folder) == 0
    return folder


def full(total: float, free: float = 0.1, ours: float = 0.0) -> str:
    """What torch says when an allocation fails on a GPU of so many GiB; ours: of this process."""
    return (
        f"CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of {total:.2f} GiB of which {free:.2f} GiB is free. "
        f"Process 189021 has {ours:.2f} GiB memory in use. Of the allocated memory {ours:.2f} GiB is allocated by PyTorch, and 0 bytes is "
        "reserved by PyTorch but unallocated. If reserved but unallocated memory is large try setting PYTORCH_ALLOC_CONF=..."
    )


def small_device(monkeypatch, rows: int) -> None:
    """From here on a device on which no more rows of a U-Net fit."""
    import torch
    from diffusers import UNet2DConditionModel

    forward = UNet2DConditionModel.forward

    def small(self, x, *args, **kwargs):
        if len(x) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, x, *args, **kwargs)

    monkeypatch.setattr(UNet2DConditionModel, "forward", small)
