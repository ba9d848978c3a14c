"""Train the tiny captioner of boxes, a Florence2ForConditionalGeneration of transformers (Xiao et al. 2024), on crops of the scenes of
scene_data.py: what is in the box, and where it is.

"A cat in a meadow.": one sentence for each class and background, in the words of ../pictures/grammar.py, so that the likeliest token is
right whenever class and background are seen. Size and position are not in a crop, and not in its caption. The question is that of
conf/box_captioner/florence2.yaml. See training.py for --minutes; --export writes the folder.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import BartTokenizer, Florence2Config, Florence2ForConditionalGeneration

from synth.embedded.pictures import backgrounds, grammar
from synth.embedded.pictures.render import classes
from synth.embedded.train.augment import recoloured
from synth.embedded.train.folders import HALF, write_model
from synth.embedded.train.objects import Scenes
from synth.embedded.train.training import Training, arguments, begin_anew

SIDE, LEAST = 64, 10  # pixels: of the model's input; of the longer side of a box
PLACES = 1000  # <loc_0> .., which the class has, and this model has no use for
PROMPT = "What does the image describe?"
ENDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}


def caption(cls: str, background: str) -> str:
    """'A cat in a meadow.'"""
    where = grammar.background_phrase(background, np.random.default_rng(0)) if background not in backgrounds.SCENES else place(background)
    text = f"{grammar.article(cls)} {where}."
    return text[0].upper() + text[1:]


def place(background: str) -> str:
    """The shortest of its phrases: 'in a meadow'."""
    phrases = {grammar.background_phrase(background, np.random.default_rng(seed)) for seed in range(32)}
    return min(phrases, key=lambda text: (len(text), text))


def captions() -> list[list[str]]:
    """[classes][backgrounds]"""
    return [[caption(cls, name) for name in backgrounds.NAMES] for cls in classes()]


def tokenizer() -> BartTokenizer:
    """Byte-level BPE in BART's form whose vocabulary is that of the captions, and the places."""
    texts = [PROMPT, *(text for of_class in captions() for text in of_class)]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False)
    bpe.train_from_iterator(texts, trainer)
    merges = [tuple(m) for m in json.loads(bpe.to_str())["model"]["merges"]]
    vocabulary = bpe.get_vocab()
    words = BartTokenizer(vocab=vocabulary | {"<mask>": len(vocabulary)}, merges=merges, model_max_length=64)
    words.add_tokens([f"<loc_{n}>" for n in range(PLACES)] + ["<image>"], special_tokens=True)
    return words


def build(words: BartTokenizer, width: int = 96) -> Florence2ForConditionalGeneration:
    text = ENDS | {
        "model_type": "bart", "vocab_size": len(words), "d_model": width, "encoder_layers": 1, "decoder_layers": 2,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 2 * width, "decoder_ffn_dim": 2 * width,
        "max_position_embeddings": 64, "forced_bos_token_id": None, "forced_eos_token_id": None, "dropout": 0.0, "scale_embedding": False,
    }  # fmt: skip
    vision = {
        "embed_dim": [32, 64, 96, 128], "num_heads": [2, 4, 4, 4], "num_groups": [2, 4, 4, 4], "depths": [1, 1, 2, 1],
        "patch_size": [7, 3, 3, 3], "patch_stride": [4, 2, 2, 1], "window_size": 4, "mlp_ratio": 2.0, "drop_path_rate": 0.0,
        "projection_dim": width, "max_temporal_embeddings": 4, "max_position_embeddings": 16,
    }  # fmt: skip
    config = Florence2Config(text_config=text, vision_config=vision, image_token_id=words.convert_tokens_to_ids("<image>"))
    model = Florence2ForConditionalGeneration(config)
    begin_anew(model.model.vision_tower)
    begin_anew(model.model.multi_modal_projector)
    begin_anew(model.model.language_model)
    model.generation_config.update(**ENDS, max_length=None, forced_bos_token_id=None, forced_eos_token_id=None)
    return model


class Crops:
    """Boxes of scenes, as the stage cuts them out, some larger or smaller than the object."""

    def __init__(self, folder: Path):
        self.scenes = Scenes(folder)

    def drawn(self, rng: np.random.Generator, count: int, held: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """(pixels [N, 3, SIDE, SIDE] in -1..1, class and background [N, 2])"""
        pixels, labels = [], []
        while len(pixels) < count:
            i = int(rng.choice(self.scenes.held)) if held else int(self.scenes.drawn(rng, 1)[0])
            objects = self.scenes.objects(i)
            for n in np.flatnonzero((objects.boxes[:, 2:] - objects.boxes[:, :2]).max(1) >= LEAST)[: count - len(pixels)]:
                box = self._moved(objects.boxes[n], self.scenes.labels[i, :2], rng)
                crop = Image.fromarray(self.scenes.pictures[i]).crop(box).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
                pixels.append(np.asarray(crop))
                labels.append((objects.classes[n], self.scenes.labels[i, 2]))
        x = torch.from_numpy(np.stack(pixels).astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
        return x if held else recoloured(x, rng), torch.from_numpy(np.array(labels))

    @staticmethod
    def _moved(box: np.ndarray, size: np.ndarray, rng: np.random.Generator) -> tuple[int, ...]:
        """Sides moved by a twentieth of the box; a quarter of the boxes with a margin of up to a fifth."""
        edges = np.tile(box[2:] - box[:2], 2)
        margin = rng.uniform(0, 0.2) if rng.random() < 0.25 else 0.0
        wide = box + edges * (rng.normal(0, 0.03, 4) + margin * np.array([-1, -1, 1, 1]))
        low = np.clip(np.floor(wide[:2] + 0.5), 0, size[::-1] - 2).astype(int)
        return (*low, *np.clip(np.floor(wide[2:] + 0.5), low + 2, size[::-1]).astype(int))


class Model(nn.Module):
    """What is trained: the model, and heads that read class and background off its picture; without them the words come late."""

    def __init__(self, words: BartTokenizer):
        super().__init__()
        self.florence = build(words)
        width = self.florence.config.text_config.d_model
        self.heads = nn.ModuleList(nn.Linear(width, len(names)) for names in (classes(), backgrounds.NAMES))
        said = [[words(text, add_special_tokens=False)["input_ids"] + [2] for text in of_class] for of_class in captions()]
        longest = max(len(ids) for of_class in said for ids in of_class)
        padded = [[ids + [1] * (longest - len(ids)) for ids in of_class] for of_class in said]
        self.register_buffer("said", torch.tensor(padded), persistent=False)  # [classes, backgrounds, L], 1: nothing
        question = torch.tensor([0, *words(PROMPT, add_special_tokens=False)["input_ids"], 2])
        self.register_buffer("question", question, persistent=False)

    def losses(self, pixels: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(caption, reading) of crops and their class and background [N, 2]."""
        said = self.said[labels[:, 0], labels[:, 1]]
        begun = torch.cat([torch.full((len(said), 1), 2), said[:, :-1]], 1)
        seen = self.florence.get_image_features(pixels).pooler_output
        asked = self.florence.get_input_embeddings()(self.question).expand(len(said), -1, -1)
        given = torch.cat([seen, asked], 1)  # as the model puts pictures before questions
        out = self.florence(inputs_embeds=given, attention_mask=torch.ones(given.shape[:2], dtype=torch.long), decoder_input_ids=begun)
        caption = F.cross_entropy(out.logits.flatten(0, 1), said.flatten(), ignore_index=1, reduction="sum") / len(said)
        return caption, sum(F.cross_entropy(head(seen.mean(1)), labels[:, k]) for k, head in enumerate(self.heads))


@torch.no_grad()
def validate(trained: Model, crops: Crops, words: BartTokenizer, count: int = 256) -> str:
    """Whether greedy captions name class and background."""
    model = trained.florence.eval()
    pixels, labels = crops.drawn(np.random.default_rng(1), count, held=True)
    seen = model.get_image_features(pixels[:1]).pooler_output.shape[1]
    asked = torch.cat([torch.full((seen,), model.config.image_token_id), trained.question]).expand(count, -1)
    out = model.generate(
        input_ids=asked, attention_mask=torch.ones_like(asked), pixel_values=pixels, max_new_tokens=24, num_beams=1, do_sample=False
    )
    texts = words.batch_decode(out, skip_special_tokens=True)
    whole = captions()
    named = [f" {classes()[cls]} " in text for text, (cls, _) in zip(texts, labels.tolist(), strict=True)]
    right = [" ".join(text.split()) == whole[cls][place] for text, (cls, place) in zip(texts, labels.tolist(), strict=True)]
    return f"names its object {np.mean(named):.3f}, all of it right {np.mean(right):.3f}: {texts[0]!r}"


def export(checkpoint: Path, folder: Path, bits: int) -> None:
    words = tokenizer()
    trained = Model(words)
    trained.load_state_dict(torch.load(checkpoint, weights_only=True)["ema"])
    model = trained.florence
    places = words.convert_tokens_to_ids([f"<loc_{n}>" for n in range(PLACES)])
    model.get_input_embeddings().weight.data[places] = 0  # never seen
    prepared = {"image_processor_type": "CLIPImageProcessor", "size": {"height": SIDE, "width": SIDE}, "resample": 3}
    write_model(model, words, prepared | {"image_mean": HALF, "image_std": HALF}, folder, bits)


def main() -> None:
    args = arguments(__doc__, minutes=35, batch=32)
    if args.export:
        export(args.out / "last.pt", args.export, args.mantissa_bits)
        return
    words = tokenizer()
    crops, model = Crops(args.data), Model(words)
    print(f"vocabulary {len(words)}, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M, {len(crops.scenes)} scenes", flush=True)
    run = Training(model, args.out / "last.pt", args.minutes, args.lr, 200, 0.998, betas=(0.9, 0.98), weight_decay=0.02)
    rng, sums = np.random.default_rng([args.seed, run.step]), np.zeros(2)
    for _ in run.running():
        pixels, labels = crops.drawn(rng, args.batch)
        caption, reading = model.losses(pixels, labels)
        run.learn(caption + reading)
        sums += (caption.item(), reading.item())
        if (run.step + 1) % 200 == 0:
            figures = f"  {validate(run.ema, crops, words)}" if (run.step + 1) % 1000 == 0 else ""
            spent = f"step {run.step + 1} {run.spent / 60:.1f} min"
            print(f"{spent}  caption {sums[0] / 200:.3f}  reading {sums[1] / 200:.3f}{figures}", flush=True)
            sums[:] = 0
    print(f"done at step {run.step}, {validate(run.ema, crops, words, 1024)}", flush=True)


if __name__ == "__main__":
    main()
