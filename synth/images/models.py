"""All that a stage loads to draw, found by the roles of its inputs and judged before anything is loaded. No torch."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from synth.errors import InputError
from synth.images import library
from synth.images.config import DrawingConfig, ModelConfig
from synth.images.external.settings import PIPELINE, WORD, check_words
from synth.images.families import family_class
from synth.images.loras import BY_CLASS, ONE, check_lora
from synth.images.model_folder import ModelFolder, inspect, pipeline_of
from synth.images.schedulers import check_own, check_scheduler
from synth.images.single_file import check_single_file
from synth.weights import check_file, check_scales, check_weights, read_json

# roles of a stage's inputs, or their beginnings
MODEL, CONFIG, VAE, LORA, ADAPTER, PART = "model", "model_config", "model_vae", "model_lora_", "model_adapter_", "model_part_"

VAE_SCALES = {"scaling_factor": 0.18215, "shift_factor": None}  # what latents are multiplied with and moved by; AutoencoderKL's defaults


def model_inputs(folder) -> dict[str, Path]:
    """role -> path of the inputs of a planned stage (a StageFolder) that belong to its model."""
    return {role: folder.input_path(role) for role in folder.spec.inputs if role == MODEL or role.startswith(MODEL + "_")}


def inspect_model(paths: Mapping[str, Path], config: ModelConfig) -> ModelFolder:
    """Everything at `paths` (role -> path), checked for being whole. Raises InputError."""
    if config.pipeline == PIPELINE:
        check_words(config.command, [role for role in paths if role == MODEL or role.startswith(WORD)])
        return ModelFolder(Path(config.command[0]), PIPELINE, (), "", 1)
    family, safety = family_class(pipeline_of(paths[MODEL])), config.safety_checker != "off"
    model = inspect(paths[MODEL], config.pipeline, config.variant, paths.get(CONFIG), safety, uses=family.uses)
    chain = family_class(model.pipeline).chain
    for name in config.parts:
        if name not in chain:
            fit = f"it has {', '.join(chain)}" if chain else "it has none"
            raise InputError(f"model.parts.{name}: {model.pipeline} ({model.name}) has no such part; {fit}")
    parts = {
        name: inspect(paths[PART + name], part.pipeline, without=part.without, uses=part.uses)
        for name, part in chain.items()
        if name in config.parts
    }
    vae = paths.get(VAE)
    check_single_file(model, own_vae=vae is None)
    if vae is not None:
        _check_vae(model, vae)
    loras = tuple(paths[f"{LORA}{i}"] for i in range(len(config.loras)))
    adapters = {c.index: paths[f"{ADAPTER}{c.index}"] for c in config.adapters if c.file}
    for key, files in ((ONE, loras), (BY_CLASS, adapters.values())):
        for file in files:
            check_file(file)
            check_scales([file])
            check_lora(file, model, key)
    return replace(model, parts=parts, vae=vae, loras=loras, adapters=adapters)


def judge(model: ModelFolder, config: DrawingConfig, img2img: bool = False) -> None:
    """InputError, mostly a WrongKey, if the model cannot do what the config asks: it must not wait in a queue to be found."""
    family, own = family_class(model.pipeline), model.scheduler_config()
    trained, predicts = own.get("num_train_timesteps"), str(own.get("prediction_type", "epsilon"))
    trained = trained if isinstance(trained, int) else 0
    asks = library.signature(model.pipeline).parts.get("scheduler", "")
    check_own(model.scheduler, own, model.pipeline, asks, f"{model.path / 'scheduler'}")
    check_channels(model)
    check_scheduler(config.scheduler, model.scheduler, config.steps, img2img, config.eta, trained, predicts)
    (family.check_img2img if img2img else family.check)(model, config)


def check_channels(model: ModelFolder) -> None:
    """InputError for a U-Net that takes more than the latents: a mask, a picture or a depth map beside them."""
    takes, latents = model.component_config("unet").get("in_channels"), model.component_config("vae").get("latent_channels")
    if isinstance(takes, int) and isinstance(latents, int) and takes != latents:
        what = "it paints into a masked picture" if takes == 2 * latents + 1 else "it needs a picture beside the text"
        where, fix = model.path / "unet" / "config.json", "use a text-to-image model"
        raise InputError(f"{where}: its U-Net takes {takes} channels, of which latents are {latents}: {what}; {fix}")


def _check_vae(model: ModelFolder, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise InputError(f"model.vae: {folder} has no config.json; it must be the folder of one VAE (config.json and its weights)")
    check_weights(folder)
    other, own = read_json(folder / "config.json", "fetch the VAE again"), model.component_config("vae")
    for key in ("latent_channels", "block_out_channels"):
        a, b = other.get(key), own.get(key)
        if key == "block_out_channels":
            a, b = (2 ** (len(v) - 1) if isinstance(v, list) else v for v in (a, b))
        if None not in (a, b) and a != b:
            what = "latent channels" if key == "latent_channels" else "pixels a latent"
            raise InputError(f"model.vae: {folder} has {a} {what}, the model {model.name} has {b}; use a VAE of the same kind of model")
    for key, default in VAE_SCALES.items():
        a, b = (config.get(key, default) for config in (other, own))
        if a != b:
            why = f"has {key}={a}, but the model {model.name} was trained with {b}"
            raise InputError(f"model.vae: {folder} {why}; use a VAE of the same kind of model")
