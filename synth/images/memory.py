"""The memory that a drawing worker needs, from a model folder's configs and the headers of its weights. No torch: asked at plan time.

Counted are the tensors that are alive at the widest moment of each phase, as diffusers' modules keep them: encoding the texts of a
batch, one call of the denoiser, one call of the decoder. tests/images/test_memory.py holds the result against live tensors counted on
the meta device, for every preset.

On the host a worker never holds a second copy of the weights: the files are mapped and read straight into the GPU's memory
(synth.images.pipeline), and pages of a mapped file are the kernel's to drop.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from synth.images.config import DrawingConfig
from synth.images.families import family_class
from synth.images.model_folder import INDEX, ModelFolder
from synth.numerics import on
from synth.weights import elements, read_json

ITEM = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes
CONTEXT = 1.0e9  # bytes: the CUDA context with its kernels (half of it), the workspaces of cuBLAS and cuDNN
USABLE = 0.92  # share of the room for activations that they can use: the allocator's blocks never fit them all
HOST_BASE = 5.0e9  # bytes: torch with CUDA's libraries, diffusers, transformers, and the host's side of a CUDA context
HOST_BATCHES = 4  # of pictures on the host: two on their way from the GPU, two being encoded and written
# a decoder whose config says force_upcast is computed in float32 by these, where the rest is in float16
UPCAST = frozenset({"StableDiffusionXLPipeline", "KolorsPipeline", "AuraFlowPipeline"})
KEPT = {"T5EncoderModel": ".wo.weight", "UMT5EncoderModel": ".wo.weight"}  # weights that transformers leaves in float32 beside float16
SCORE = 13  # bytes a score of the plain attention kernel: scores, softmax and its copy without rows of -inf in float32, and their mask

UNETS = ("UNet2DConditionModel", "UNet2DModel")
TRANSFORMER = 20  # channels alive a channel of a U-Net's transformer block: its gated feed-forward has 8 before and 8 behind its product
ATTENTION = 11  # the same of an attention without a feed-forward
# widths of the stream alive for each token where a block is widest: stream, norm, and a feed-forward of 4 before and 4 behind its
# activation; FLUX's single blocks compute attention and feed-forward side by side and join them
STREAM = {
    "FluxTransformer2DModel": 17.7,
    "SD3Transformer2DModel": 13.0,
    "AuraFlowTransformer2DModel": 13.4,
    "CogView4Transformer2DModel": 13.4,
    "PixArtTransformer2DModel": 13.0,
}
TOKENS = {  # of a caption at most that lie in the stream beside the picture's
    "FluxTransformer2DModel": 512,
    "SD3Transformer2DModel": 333,
    "AuraFlowTransformer2DModel": 264,
    "CogView4Transformer2DModel": 1024,
}
DECODERS = ("AutoencoderKL", "VQModel")
READ = 512  # tokens at most of a caption in a text encoder
READER = {"ChatGLMModel": 46}  # widths alive for each token of a text encoder: this one keeps the states of all its layers
ANY_READER = 14  # of any other
KARLO, FLOYD = "UnCLIPPipeline", "IFPipeline"


@dataclass(frozen=True)
class Need:
    """Bytes on one GPU, and on the host, of a worker that draws."""

    dtype: str
    weights: Mapping[str, int] = field(default_factory=dict)  # by component
    encode: int = 0  # activations of each phase
    denoise: int = 0
    decode: int = 0
    host: int = 0

    @property
    def tensors(self) -> int:
        """What is alive at the widest moment."""
        return sum(self.weights.values()) + max(self.encode, self.denoise, self.decode)

    @property
    def device(self) -> int:
        """What a GPU must have: tensors, what the allocator cannot use, and what lies beside them."""
        return int(sum(self.weights.values()) + max(self.encode, self.denoise, self.decode) / USABLE + CONTEXT)


def dtype_on_gpu(numerics: Mapping, own: str) -> str:
    """What a GPU computes in: numerics["dtype"]; where that is auto, `own` (model.dtype); where that is auto, bfloat16."""
    name = on(numerics, "cuda")["dtype"]
    name = own if name == "auto" else name
    return "bfloat16" if name == "auto" else name


def known(model: ModelFolder) -> bool:
    """Whether the memory of a model can be told: its denoiser is one of those above."""
    drawing = [cls for name, cls in _classes(model).items() if name in ("unet", "transformer", "decoder")]
    return bool(drawing) and all(cls in (*UNETS, *STREAM) for cls in drawing)


def need(model: ModelFolder, config: DrawingConfig, numerics: Mapping, batch: int, vae_batch: int, offload: bool = False) -> Need:
    """Of `batch` pictures drawn together and decoded `vae_batch` at a time (0: all together), by a model that is `known`.

    offload: text encoders rest in the host's memory while pictures are drawn. They pass through the GPU's all the same, beside
    everything else, so that only activations gain room.
    """
    parts = [_Part(prefix, folder, _classes(folder)) for prefix, folder in {"": model, **model.parts}.items()]
    denoisers = [(p, name, cls) for p in parts for name, cls in p.classes.items() if cls in (*UNETS, *STREAM)]
    dtype = dtype_on_gpu(numerics, config.model.dtype)
    item, plain = ITEM[dtype], on(numerics, "cuda")["attention"] == "math"
    weights = dict(_weights(model, parts, dtype))
    resting = sum(n for name, n in weights.items() if "text_encoder" in name) if offload else 0
    denoise = max(_denoising(model, *d, config, batch, item, plain) for d in denoisers)
    decode = max((_decoding(p, name, cls, config, dtype, batch, vae_batch, plain) for p, name, cls in _decoders(parts)), default=0)
    encode = max((_reading(p, name, cls, batch, dtype) for p, name, cls in _readers(parts)), default=0)
    pictures = HOST_BATCHES * batch * config.height * config.width * 3
    return Need(dtype, weights, encode, max(0, denoise - resting), max(0, decode - resting), int(HOST_BASE) + pictures + resting)


@dataclass(frozen=True)
class _Part:
    """A folder of a chain. prefix: its name in model.parts, "" for the model's own; classes: of its components by name."""

    prefix: str
    folder: ModelFolder
    classes: Mapping[str, str]

    def config(self, name: str) -> dict:
        folder = self.folder
        return (
            read_json(folder.vae / "config.json", "fetch the VAE again") if name == "vae" and folder.vae else folder.component_config(name)
        )


def _classes(folder: ModelFolder) -> dict[str, str]:
    index = read_json(folder.path / INDEX, "fetch the model again")
    return {name: str(index[name][1]) for name in folder.components}


def _decoders(parts: list[_Part]) -> Iterator[tuple[_Part, str, str]]:
    return ((p, name, cls) for p in parts for name, cls in p.classes.items() if cls in DECODERS)


def _readers(parts: list[_Part]) -> Iterator[tuple[_Part, str, str]]:
    return ((p, name, cls) for p in parts for name, cls in p.classes.items() if name.startswith("text_encoder"))


# -- weights ---------------------------------------------------------------------------------------------------------


def _weights(model: ModelFolder, parts: list[_Part], dtype: str) -> Iterator[tuple[str, int]]:
    """(component, bytes) in the dtype that a GPU holds them in."""
    item, chain = ITEM[dtype], family_class(model.pipeline).chain
    if model.checkpoint is not None:
        yield "checkpoint", sum(n for _, n in elements(model.checkpoint)) * item
        return
    for part in parts:
        shared = chain[part.prefix].shared if part.prefix else ()
        for name, cls in part.classes.items():
            if name in shared and name in parts[0].classes:
                continue
            own = part.folder.vae if name == "vae" and part.folder.vae else part.folder.path / name
            kept = KEPT.get(cls, "-") if dtype == "float16" else "-"
            n = sum(count * (4 if key.endswith(kept) else item) for key, count in elements(own, part.folder.variant))
            if n:
                yield f"{part.prefix}.{name}" if part.prefix else name, n


# -- denoising -------------------------------------------------------------------------------------------------------


def _denoising(model: ModelFolder, part: _Part, name: str, cls: str, config: DrawingConfig, batch: int, item: int, plain: bool) -> int:
    """Bytes of one call of a denoiser."""
    own = part.config(name)
    height, width = _grid(model, part, own, config)
    if cls in UNETS:
        return int(_unet(own, height, width, item, plain) * batch * (2 if cls == UNETS[0] and _doubled(model, part, config) else 1))
    patch = 2 if cls == "FluxTransformer2DModel" else own["patch_size"]  # FLUX packs its latents two by two
    tokens = (height // patch) * (width // patch) + TOKENS.get(cls, 0)
    heads = own["num_attention_heads"]
    row = STREAM[cls] * tokens * heads * own["attention_head_dim"] * item + (heads * tokens**2 * SCORE if plain else 0)
    return int(row * batch * (2 if _doubled(model, part, config) else 1))


def _doubled(model: ModelFolder, part: _Part, config: DrawingConfig) -> bool:
    """Whether the unconditional half of the rows is computed in the same call."""
    scale = getattr(config.model.parts.get(part.prefix), "guidance_scale", 0) or config.guidance_scale
    distilled = part.config("unet").get("time_cond_proj_dim") is not None
    return scale > 1 and not distilled and (model.pipeline == KARLO or family_class(model.pipeline).halves_in_one_call)


def _grid(model: ModelFolder, part: _Part, own: Mapping, config: DrawingConfig) -> tuple[int, int]:
    """(height, width) of what a denoiser is given: latents, or pixels."""
    if model.pipeline == KARLO:
        return own["sample_size"], own["sample_size"]
    if model.pipeline == FLOYD:  # each further stage enlarges 4 times; the last one's latents are as large as what it is given
        shrink = {"": 4 ** len(model.parts), "stage_2": 4 ** (len(model.parts) - 1)}.get(part.prefix, 4)
    else:
        decoder = model.component_config("movq") or part.config("vae") or model.component_config("vae")
        shrink = 2 ** (len(decoder.get("block_out_channels", [0] * 4)) - 1)
    return config.height // shrink, config.width // shrink


def _unet(own: Mapping, height: int, width: int, item: int, plain: bool) -> float:
    """Bytes alive at the widest moment of a U-Net, for one row: the skips so far, what a block was given, and what it computes."""
    outs, depth = own["block_out_channels"], len(own["block_out_channels"])
    layers = own["layers_per_block"]
    layers = [layers] * depth if isinstance(layers, int) else layers
    areas = [height * width / 4**level for level in range(depth)]
    skips, peak = [outs[0] * areas[0]], 0.0

    def block(kind: str, before: int, level: int) -> float:
        after, area = outs[level], areas[level]
        resnet = max(3 * before + after, before + 3 * after) * area  # input, norm and activation, a copy in the convolution's layout
        if "Attn" not in kind:
            return resnet
        scores = _heads(own, level, "Simple" in kind) * area**2 * SCORE / item if plain else 0
        return max(resnet, (ATTENTION if "Simple" in kind else TRANSFORMER) * after * area, 4 * after * area + scores)

    for level, kind in enumerate(own["down_block_types"]):
        for n in range(layers[level]):
            peak = max(peak, sum(skips) + block(kind, outs[max(level - 1, 0)] if n == 0 else outs[level], level))
            skips.append(outs[level] * areas[level])
        if level < depth - 1:
            skips.append(outs[level] * areas[level + 1])
    peak = max(peak, sum(skips) + block(own.get("mid_block_type") or "", outs[-1], depth - 1))
    given = outs[-1]
    for level, kind in zip(reversed(range(depth)), own["up_block_types"], strict=True):
        held = given * areas[level]
        for n in range(layers[level] + 1):
            skip = outs[level] if n < layers[level] else outs[max(level - 1, 0)]
            peak = max(peak, sum(skips) + held + block(kind, (outs[level] if n else given) + skip, level))
        if level:  # enlarged: input and output, with a copy; a ResNet that enlarges has its shortcut beside it
            times = 5 if kind.startswith(("Resnet", "Simple")) else 3
            peak = max(peak, sum(skips) + held + (1 + 4 * times) * outs[level] * areas[level])
        del skips[len(skips) - layers[level] - 1 :]
        given = outs[level]
    return peak * item


def _heads(own: Mapping, level: int, simple: bool) -> float:
    """Heads of a U-Net's attention. Its config calls their number attention_head_dim, but for the simple kind."""
    value = own.get("num_attention_heads") or own.get("attention_head_dim") or 8
    value = value[level] if isinstance(value, (list, tuple)) else value
    return own["block_out_channels"][level] / value if simple else value


# -- decoding --------------------------------------------------------------------------------------------------------


def _decoding(part: _Part, name: str, cls: str, config: DrawingConfig, dtype: str, batch: int, vae_batch: int, plain: bool) -> int:
    """Bytes of decoding a batch, with its finished pictures. plain: torch's own kernels; their convolutions lay out what a pixel sees."""
    own, pixels = part.config(name), config.height * config.width
    wide = dtype == "float16" and own.get("force_upcast", True) and part.folder.pipeline in UPCAST
    item = 4 if wide else ITEM[dtype]
    rows = min(vae_batch or batch, batch)
    once = _decoder(own, cls) * pixels * item
    if plain and own.get("mid_block_add_attention", True):
        once = max(once, (pixels / 4 ** (len(own["block_out_channels"]) - 1)) ** 2 * SCORE)
    weights = sum(n for _, n in elements(part.folder.vae or part.folder.path / name, part.folder.variant)) * 4 if wide else 0
    done = 3 * pixels * item * (2 * batch if rows < batch else 2 * rows)
    seen = _columns(own) * pixels * item if plain else 0
    return int(once * rows + weights + done + seen)


def _columns(own: Mapping) -> float:
    """Values for each pixel that a decoder's widest 3x3 convolution reads: a level's first one has the channels of the level before."""
    outs = own["block_out_channels"]
    return max(9 * given / 4**level for level, given in enumerate([*outs[1:], outs[-1]]))


def _decoder(own: Mapping, cls: str) -> float:
    """Channels alive for each pixel at the widest moment of a decoder."""
    outs, peak = own["block_out_channels"], 0.0
    spatial = own.get("norm_type") == "spatial"  # each norm has two more convolutions of the latents beside it
    before = outs[-1]
    for level in reversed(range(len(outs))):
        after = outs[level]
        resnet = max(5 * before, 5 * after) if spatial else max(3 * before + after, 4 * after)
        enlarged = 4 * 3 * after + after + before if level else 0  # and what it is made of, and what the block was given
        peak = max(peak, max(resnet, enlarged) / 4**level)
        before = after
    return peak


# -- encoding --------------------------------------------------------------------------------------------------------


def _reading(part: _Part, name: str, cls: str, batch: int, dtype: str) -> int:
    """Bytes of encoding a batch of captions: little beside a picture, so roughly."""
    own = part.config(name)
    width = own.get("d_model") or own.get("hidden_size") or 0
    tokens = min(READ, own.get("max_position_embeddings") or READ)
    item = 4 if cls in KEPT and dtype == "float16" else ITEM[dtype]
    return int(READER.get(cls, ANY_READER) * tokens * width * item * batch)
