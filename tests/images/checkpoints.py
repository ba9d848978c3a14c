"""A Stable Diffusion 1 pipeline as one state dict under the names of the first release: the layout of v1-5.ckpt."""

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}  # fmt: skip
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_name(key: str, layers: int) -> str:
    """down_blocks.1.resnets.0.norm1.weight -> input_blocks.3.0.in_layers.0.weight"""
    part = key.split(".")
    whole = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    if part[0] in whole:
        return ".".join([whole[part[0]], *part[1:]])
    if part[0] == "time_embedding":
        return ".".join(["time_embed", "0" if part[1] == "linear_1" else "2", *part[2:]])
    if part[0] == "mid_block":
        place = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}[".".join(part[1:3])]
        return ".".join(["middle_block", place, _inner(part[1], part[3:])])
    block, kind, j = int(part[1]), part[2], int(part[3])
    rest = _inner(kind, part[4:])
    if part[0] == "down_blocks":
        if kind == "downsamplers":
            return f"input_blocks.{(block + 1) * (layers + 1)}.0.op.{part[-1]}"
        return f"input_blocks.{1 + block * (layers + 1) + j}.{0 if kind == 'resnets' else 1}.{rest}"
    if kind == "upsamplers":
        return f"output_blocks.{block * (layers + 1) + layers}.2.conv.{part[-1]}"
    return f"output_blocks.{block * (layers + 1) + j}.{0 if kind == 'resnets' else 1}.{rest}"


def _inner(kind: str, rest: list[str]) -> str:
    return ".".join([_RESNET[rest[0]], *rest[1:]] if kind == "resnets" else rest)


def vae_name(key: str, blocks: int) -> str:
    """decoder.up_blocks.0.resnets.0.conv_shortcut.weight -> decoder.up.1.block.0.nin_shortcut.weight"""
    part = key.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out").split(".")
    if len(part) > 2 and part[1] == "mid_block":
        if part[2] == "resnets":
            return ".".join([part[0], "mid", f"block_{int(part[3]) + 1}", *part[4:]])
        name = ".".join(part[4:-1])
        return ".".join([part[0], "mid.attn_1", _ATTENTION[name], part[-1]])
    if len(part) > 2 and part[1] in ("down_blocks", "up_blocks"):
        down = part[1] == "down_blocks"
        level = int(part[2]) if down else blocks - 1 - int(part[2])
        head = [part[0], "down" if down else "up", str(level)]
        if part[3] == "resnets":
            return ".".join([*head, "block", *part[4:]])
        return ".".join([*head, "downsample" if down else "upsample", "conv", part[-1]])
    return ".".join(part)


def single_file(pipe) -> dict:
    """Every weight of a StableDiffusionPipeline whose last up block alone has no upsampler."""
    state = {f"model.diffusion_model.{unet_name(k, pipe.unet.config.layers_per_block)}": v for k, v in pipe.unet.state_dict().items()}
    for key, value in pipe.vae.state_dict().items():
        name = vae_name(key, len(pipe.vae.config.block_out_channels))
        if ".attn_1." in name and value.ndim == 2:
            value = value[:, :, None, None]  # a convolution of one pixel in the first release
        state[f"first_stage_model.{name}"] = value
    for key, value in pipe.text_encoder.state_dict().items():
        key = key if key.startswith("text_model.") else f"text_model.{key}"
        state[f"cond_stage_model.transformer.{key}"] = value
    return {k: v.clone().contiguous() for k, v in state.items()}
