"""A single-file checkpoint, judged by the names in its header against the folder that gives its configs. No torch."""

from pathlib import Path

from synth.errors import InputError
from synth.images.model_folder import INDEX, ModelFolder
from synth.weights import SUFFIXES, metadata, shape_of, tensor_names

DENOISER = "model.diffusion_model."  # how the names of Stable Diffusion's begin, and of most that came later
VAE = ("first_stage_model.", "vae.")
TEXT = ("cond_stage_model.", "conditioner.", "text_encoders.")
T5 = "text_encoders.t5xxl."
FIRST = DENOISER + "input_blocks.0.0.weight"  # [out, in, 3, 3] of a U-Net


def check_single_file(model: ModelFolder, own_vae: bool = True) -> None:
    """InputError unless the checkpoint holds what is loaded from it, and is of the kind that its config folder says.

    own_vae: its own VAE is used, and not another one. A pickle's header is not read: what it lacks is told when it is loaded.
    """
    file = model.checkpoint
    if file is None or file.suffix != ".safetensors":
        return
    names = tensor_names(file)
    _check_trained(file, names, model)
    _check_kind(file, names, model)
    _check_parts(file, names, model, own_vae)
    _check_channels(file, names, model)


def _check_kind(file: Path, names: frozenset[str], model: ModelFolder) -> None:
    """Stable Diffusion 1 and 2 have one text encoder, XL two, each under names of their own: one would be passed over in silence."""
    two = "text_encoder_2" in model.components
    of_xl = any(name.startswith("conditioner.embedders.") for name in names)
    if of_xl != two and (of_xl or any(name.startswith("cond_stage_model.") for name in names)):
        held = "two text encoders, as Stable Diffusion XL has them" if of_xl else "one text encoder, as Stable Diffusion 1 and 2 have it"
        raise InputError(f"{file}: holds {held}, but {model.path / INDEX} is a {model.pipeline}; use a model.config of its kind")


def _check_parts(file: Path, names: frozenset[str], model: ModelFolder, own_vae: bool) -> None:
    missing = []
    if own_vae and "vae" in model.components and not any(name.startswith(VAE) for name in names):
        missing.append("vae")
    for part in (c for c in model.components if c.startswith("text_encoder")):
        begins = (T5,) if "T5" in model.classes.get(part, "") else TEXT
        held = any(name.startswith(begins) and (begins[0] == T5 or not name.startswith(T5)) for name in names)
        if not held and not (begins[0] == T5 and _has_weights(model.path / part)):
            missing.append(part)
    if not missing:
        return
    denoiser = next((c for c in ("transformer", "unet") if c in model.components), "unet")
    cls = model.classes.get(denoiser, "UNet2DConditionModel")
    save = f"diffusers.{cls}.from_single_file(FILE, config=FOLDER, subfolder={denoiser!r}).save_pretrained(COPY/{denoiser})"
    fix = f"use a whole checkpoint; or copy a whole folder of the model and put this into it: {save}, then model.path=COPY"
    raise InputError(f"{file}: holds no {', '.join(missing)}, which {model.pipeline} is made of ({model.path / INDEX}); {fix}")


def _has_weights(folder: Path) -> bool:
    """Whether diffusers finds a T5 here that a checkpoint was published without."""
    return folder.is_dir() and any(p.suffix in SUFFIXES for p in folder.iterdir())


def _check_channels(file: Path, names: frozenset[str], model: ModelFolder) -> None:
    """The folder of a text-to-image model beside an in-painting file: diffusers would say that a size does not match."""
    wanted = model.component_config("unet").get("in_channels")
    if FIRST in names and len(shape := shape_of(file, FIRST)) == 4 and isinstance(wanted, int) and shape[1] != wanted:
        what = " (latents, a mask and a masked picture: in-painting)" if shape[1] == 9 else ""
        where = model.path / "unet" / "config.json"
        raise InputError(f"{file}: its U-Net takes {shape[1]} channels{what}, {where} says {wanted}; use a text-to-image checkpoint")


def _check_trained(file: Path, names: frozenset[str], model: ModelFolder) -> None:
    """InputError if a checkpoint is marked as trained for another prediction or other noise levels than its config folder says."""
    scheduler = model.scheduler_config()
    said = metadata(file).get("modelspec.predict_key", metadata(file).get("modelspec.prediction_type", ""))
    where = f"{model.path / 'scheduler' / 'scheduler_config.json'}"
    if ("v_pred" in names or said.startswith("v")) and scheduler.get("prediction_type", "epsilon") != "v_prediction":
        fix = 'use a model.config whose scheduler has "prediction_type": "v_prediction"'
        raise InputError(f"{file}: is marked as predicting v, but {where} says {scheduler.get('prediction_type', 'epsilon')}; {fix}")
    if "ztsnr" in names and not scheduler.get("rescale_betas_zero_snr"):
        fix = 'use a model.config whose scheduler has "rescale_betas_zero_snr": true'
        raise InputError(f"{file}: is marked as trained down to zero signal (ztsnr), which {where} does not say; {fix}")
    if names & {"edm_mean", "edm_vpred.sigma_max"} and not model.scheduler.startswith("EDM"):
        fix = "use a model.config whose scheduler is an EDM one"
        raise InputError(f"{file}: is marked as trained on EDM's noise levels, but {where} is of {model.scheduler}; {fix}")
