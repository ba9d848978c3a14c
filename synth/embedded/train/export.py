"""Put the trained parts together as an ordinary StableDiffusionPipeline folder (fp16 safetensors)."""

import argparse
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from transformers import CLIPTokenizer

from synth.embedded.train.clip_text import LENGTH
from synth.embedded.train.rounding import round_mantissa
from synth.embedded.train.unet import BETAS, Model
from synth.embedded.train.vae import build_vae


def scheduler() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=BETAS[0],
        beta_end=BETAS[1],
        beta_schedule="scaled_linear",
        solver_order=2,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )


def pipeline(unet_checkpoint: Path, vae_checkpoint: Path) -> StableDiffusionPipeline:
    """The pipeline in fp32, with averaged weights."""
    tokenizer = CLIPTokenizer.from_pretrained(unet_checkpoint.parent / "tokenizer", model_max_length=LENGTH)
    state = torch.load(unet_checkpoint, weights_only=True)
    model = Model(tokenizer, *state["channels"], state["text_width"])
    model.load_state_dict(state["ema"])
    vae = build_vae()
    vae.load_state_dict(torch.load(vae_checkpoint, weights_only=True)["ema"])
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=model.text,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("unet", type=Path, help="last.pt of unet.py (its tokenizer folder beside it)")
    parser.add_argument("vae", type=Path, help="checkpoint of vae.py")
    parser.add_argument("out", type=Path, help="pipeline folder to write")
    parser.add_argument("--mantissa-bits", type=int, default=7, help="of 10, see rounding.py (default: %(default)s)")
    args = parser.parse_args()
    pipe = pipeline(args.unet, args.vae).to(dtype=torch.float16)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        for weights in part.parameters():
            weights.data = round_mantissa(weights.data, args.mantissa_bits)
    pipe.save_pretrained(args.out, safe_serialization=True)
    size = sum(f.stat().st_size for f in args.out.rglob("*") if f.is_file())
    print(f"{args.out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
