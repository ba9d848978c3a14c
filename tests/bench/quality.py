"""How good the embedded models are: do captions name their class, do pictures show what captions say, does a
classifier trained on synthetic pictures work on rendered ones, and do the models that look at pictures find what
is in new scenes. Prints tables with their conditions; asserts nothing.

    python tests/bench/quality.py                      # everything, about ten minutes of one core
    python tests/bench/quality.py --parts captions --count 200
    python tests/bench/quality.py --parts clip layout     # a minute

"agrees" means: a reference CNN, trained on rendered pictures only, reads class / background / size / position off a
synthetic picture as its caption asked. The CNN knows these drawings alone, so look at the pictures too (--sheet).
"""

import argparse
import itertools
import json
import platform
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from synth.captions.prompts.modes import HEADINGS  # noqa: E402
from synth.captions.words import names_class  # noqa: E402
from synth.embedded.pictures import backgrounds, grammar  # noqa: E402
from synth.embedded.pictures.render import FOLDER, classes  # noqa: E402
from synth.embedded.train.picture_data import rendered_set  # noqa: E402
from tests.bench import quality_layout  # noqa: E402

MODELS = ROOT / "synth" / "embedded" / "models"
PARTS = ("captions", "images", "transfer", "clip", "layout")
SCENES = 200  # new ones
CHAIN = ((0.3, 0.2), (0.3, 0.5), (0.1, 0.5), (0.03, 0.2), (0.03, 0.5))  # min_probability of the tagger, box_threshold
ATTRIBUTES = ("class", "background", "size", "position")
SECOND = {"class_background": "background", "class_relation": "relation"}


@dataclass(frozen=True)
class Generated:
    """Pictures of one guidance scale. pictures uint8 [N, 32, 32, 3]; labels [N, 4] are what the captions asked."""

    guidance: float
    pictures: np.ndarray
    seconds: float


def prompt_of(name: str, mode: str, rng: np.random.Generator, examples: dict) -> str:
    def key(entry):
        return f"{entry['class']}, {entry[SECOND[mode]]}" if mode in SECOND else entry["class"]

    shots = [examples[mode][i] for i in rng.choice(len(examples[mode]), 3, replace=False)]
    second = {"class_background": backgrounds.NAMES, "class_relation": grammar.RELATIONS}.get(mode)
    query = {"class": name, SECOND.get(mode, ""): str(rng.choice(second)) if second else ""}
    return "\n\n".join([HEADINGS[mode], *(f"{key(e)} => {e['caption']}" for e in shots), f"{key(query)} =>"])


def captions_table(folder: Path, count: int, seed: int) -> list[list[str]]:
    """Captions of 20 known and 100 unseen names in each mode, at temperature 0.8 and top-p 0.9."""
    from synth.captions.engines import Request
    from synth.captions.llama.config import EngineConfig
    from synth.captions.llama.engine import LlamaEngine

    examples = json.loads((FOLDER / "examples.json").read_text())
    unseen = json.loads(Path(__file__).with_name("unseen_names.json").read_text())
    rng, rows = np.random.default_rng(seed), []
    with LlamaEngine(EngineConfig(ckpt_dir=str(folder), temperature=0.8, top_p=0.9, max_batch_size=64)) as engine:
        for title, names in (("20 classes", list(classes())), ("unseen names", unseen)):
            for mode in ("class", "class_background", "class_relation"):
                asked = [names[i % len(names)] for i in range(count)]
                prompts = [prompt_of(name, mode, rng, examples) for name in asked]
                done = engine.generate([Request(p, seed=int(s)) for p, s in zip(prompts, rng.integers(2**63, size=count), strict=True)])
                texts = [c.text.strip() for c in done]
                queries = [p.rsplit("\n\n", 1)[1].removesuffix(" =>") for p in prompts]
                second = [q[len(name) + 2 :] for q, name in zip(queries, asked, strict=True)]
                rows.append(
                    [
                        title,
                        mode,
                        f"{np.mean([names_class(t, n) for t, n in zip(texts, asked, strict=True)]):.3f}",
                        f"{np.mean([s in t.lower() for t, s in zip(texts, second, strict=True)]):.3f}" if mode in SECOND else "",
                        f"{np.mean([c.stop_reason == 'stop' for c in done]):.3f}",
                        f"{len(set(texts)) / count:.3f}",
                        texts[3],
                    ]
                )
    return rows


class Net(nn.Module):
    """A small CNN with one head an attribute. Input uint8 [N, 32, 32, 3]."""

    def __init__(self, heads: tuple[int, ...], width: int = 32):
        super().__init__()
        sizes = (3, width, 2 * width, 3 * width)
        self.body = nn.Sequential(
            *(
                layer
                for a, b in itertools.pairwise(sizes)
                for layer in (nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
            )
        )
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(3 * width * 16, 192), nn.ReLU(), nn.Dropout(0.2))
        self.heads = nn.ModuleList(nn.Linear(192, n) for n in heads)

    def forward(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        x = self.hidden(self.body(pictures.permute(0, 3, 1, 2).float() / 127.5 - 1))
        return [head(x) for head in self.heads]


def train(pictures: np.ndarray, labels: np.ndarray, heads: tuple[int, ...], epochs: int, seed: int) -> Net:
    """AdamW, one-cycle, batch 64. labels [N, len(heads)]."""
    torch.manual_seed(seed)
    net, x, y = Net(heads), torch.from_numpy(pictures), torch.from_numpy(labels).long()
    steps = epochs * -(-len(x) // 64)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(64):
            loss = sum(F.cross_entropy(out, y[index, i]) for i, out in enumerate(net(x[index])))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.inference_mode()
def correct(net: Net, pictures: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """bool [N, heads]: where the net reads what the labels say."""
    x = torch.from_numpy(pictures)
    read = [torch.stack([out.argmax(1) for out in net(part)], 1) for part in x.split(256)]
    return torch.cat(read).numpy() == labels[:, : len(net.heads)]


def trained_judge(cache: Path | None, heads: tuple[int, ...], seed: int) -> Net:
    """The reference CNN, from `cache` if it is there, else trained on 16,000 renders and put there."""
    if cache and cache.exists():
        net = Net(heads)
        net.load_state_dict(torch.load(cache, weights_only=True))
        return net.eval()
    net = train(*rendered_set(16_000, seed)[:2], heads, 5, 0)
    if cache:
        torch.save(net.state_dict(), cache)
    return net


def generate(folder: Path, captions: list[str], guidance: float, steps: int, seed: int) -> Generated:
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pictures, started = [], time.perf_counter()
    for first in range(0, len(captions), 32):
        part = captions[first : first + 32]
        seeds = [torch.Generator().manual_seed(seed * 1_000_003 + first + i) for i in range(len(part))]
        out = pipeline(part, num_inference_steps=steps, guidance_scale=guidance, generator=seeds, output_type="np").images
        pictures.append((out * 255).round().astype(np.uint8))
    return Generated(guidance, np.concatenate(pictures), time.perf_counter() - started)


def transfer_row(title: str, pictures: np.ndarray, labels: np.ndarray, tests: list) -> list[str]:
    """Class accuracy on each test set, mean and range of three classifier seeds."""
    nets = [train(pictures, labels[:, :1], (20,), 20, seed) for seed in range(3)]
    row = [title]
    for test_pictures, test_labels in tests:
        got = [correct(net, test_pictures, test_labels)[:, 0].mean() for net in nets]
        row.append(f"{np.mean(got):.3f} [{min(got):.3f}-{max(got):.3f}]")
    return row


def show(title: str, header: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    print(f"\n{title}")
    for row in [header, ["-" * w for w in widths], *rows]:
        print("  ".join(str(cell).ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip(), flush=True)


def contact_sheet(path: Path, sets: list[Generated], rendered: np.ndarray) -> None:
    """A band of 40 pictures for each guidance scale, rendered ones of the same captions last, three times enlarged."""
    from PIL import Image

    bands = [s.pictures[:40] for s in sets] + [rendered[:40]]
    rows = [np.concatenate(list(band[i : i + 20]), 1) for band in bands for i in (0, 20)]
    Image.fromarray(np.concatenate(rows, 0)).resize((20 * 96, len(rows) * 96), Image.Resampling.BICUBIC).save(path)


def clip_tables(count: int, seed: int) -> None:
    from synth.layout.vocabulary import read_words

    folder, pictures = MODELS / "tiny_clip", quality_layout.new_scenes(SCENES)
    show(
        f"CLIP: {count} new renders of one object, the nearest of the 20 classes ({quality_layout.TEMPLATE!r}) and of the 21 backgrounds",
        ["pictures", "class", "background"],
        quality_layout.zero_shot_rows(folder, count, seed),
    )
    listed = read_words(ROOT / "synth" / "layout" / "words" / "objects.txt")
    for title, words in (("the 20 classes", classes()), ("synth/layout/words/objects.txt", tuple(dict.fromkeys((*classes(), *listed))))):
        show(
            f"CLIP as a tagger: {SCENES} new scenes of one to four objects, {len(words)} words: {title}",
            ["min_probability", "recall", f"of {quality_layout.SMALL} pixels and more", "precision"],
            quality_layout.tag_rows(folder, pictures, words, (0.03, 0.1, 0.2, 0.3, 0.5)),
        )


def layout_table(page: Path | None) -> None:
    pictures = quality_layout.new_scenes(SCENES)
    show(
        f"Layout: {SCENES} new scenes of one to four objects, each model given the truth of the one before",
        ["what", "all objects", f"of {quality_layout.SMALL} pixels and more"],
        quality_layout.layout_rows(MODELS, pictures),
    )
    show(
        f"Tagger and detector together: {SCENES} new scenes, 20 words",
        ["min_probability", "box_threshold", "tags found", "precision", "objects found", "precision"],
        quality_layout.chain_rows(MODELS, pictures, CHAIN),
    )
    if page:
        quality_layout.sheet(MODELS, pictures[:18], page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--llama", type=Path, default=MODELS / "tiny_llama")
    parser.add_argument("--pipeline", type=Path, default=MODELS / "tiny_sd")
    parser.add_argument("--count", type=int, default=1200, help="pictures a guidance scale; a third as many captions a row")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0, 4.0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--judge", type=Path, help="keep the trained judge here and use it next time")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet PNG here")
    parser.add_argument("--layout-sheet", type=Path, help="write one of boxes, masks and their captions here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}, seed {args.seed}")

    if "captions" in args.parts:
        rows = captions_table(args.llama, args.count // 3, args.seed)
        show(
            f"Captions: temperature 0.8, top-p 0.9, three examples, {args.count // 3} a row, first attempts (no redraw)",
            ["names", "mode", "class named", "2nd named", "ended", "unique", "for example"],
            rows,
        )
    if "clip" in args.parts:
        clip_tables(args.count, args.seed + 6)
    if "layout" in args.parts:
        layout_table(args.layout_sheet)
    if "images" not in args.parts and "transfer" not in args.parts:
        return
    asked, labels, captions = rendered_set(args.count, args.seed + 1)
    sets = [generate(args.pipeline, captions, g, args.steps, args.seed) for g in args.guidance]
    if args.sheet:
        contact_sheet(args.sheet, sets, asked)
    fresh = rendered_set(2000, args.seed + 2)[:2]
    if "images" in args.parts:
        heads = (20, len(backgrounds.NAMES), 3, 3)
        judge = trained_judge(args.judge, heads, args.seed + 3)
        rows = [["rendered", "", *(f"{v:.3f}" for v in correct(judge, *fresh).mean(0))]]
        worst = {}
        for made in sets:
            right = correct(judge, made.pictures, labels)
            rows.append([f"guidance {made.guidance:g}", f"{made.seconds / args.count:.3f}", *(f"{v:.3f}" for v in right.mean(0))])
            worst[made.guidance] = sorted((round(float(right[labels[:, 0] == i, 0].mean()), 2), c) for i, c in enumerate(classes()))[:4]
        show(
            f"Pictures agree with their captions: {args.count} grammar captions, {args.steps} steps, judge trained on "
            f"16000 renders, 5 epochs; 'rendered' = the judge on 2000 new renders",
            ["pictures", "s/image", *ATTRIBUTES],
            rows,
        )
        print("worst classes:", worst)
    if "transfer" in args.parts:
        held = rendered_set(2000, args.seed + 4, held_out=True)[:2]
        real = rendered_set(args.count, args.seed + 5)[:2]
        rows = [transfer_row("rendered", *real, [fresh, held])]
        rows += [transfer_row(f"synthetic, guidance {s.guidance:g}", s.pictures, labels, [fresh, held]) for s in sets]
        show(
            f"Class accuracy of a CNN trained on {args.count} pictures, 20 epochs, mean [range] of 3 classifier seeds",
            ["trained on", "new renders", "renders of other artists' drawings"],
            rows,
        )


if __name__ == "__main__":
    main()
