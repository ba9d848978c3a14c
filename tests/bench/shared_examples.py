"""What it costs in variety that captions share their drawn examples: python -m tests.bench.shared_examples [--captions 300]

Captions of the embedded model for the embedded classes, with prompts.group = 1 (a draw a caption, as SynCLR does) and more:
different captions; distinct-2 (different pairs of neighbouring words among all); share of the commonest first three words;
words that two captions of a class share (Jaccard, mean over pairs); prompt tokens a caption, if each heading with its
examples is computed once a window.
"""

import argparse
import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np

from launch.config.compose import Composer, typed
from launch.plan.datasets import dataset_of
from synth.captions import prompts
from synth.captions.checks import first_line, reject_reason
from synth.captions.engines import Request
from synth.captions.llama.config import EngineConfig
from synth.captions.llama.engine import LlamaEngine
from synth.captions.llama.tokenizer import Tokenizer
from synth.captions.normalise import normalised
from tests.configs import CaptionerConfig, CaptionsConfig, PromptsConfig

GROUPS = (1, 4, 16, 32)
WINDOW = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--captions", type=int, default=300, help="for each group size and seed")
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    config = typed(Composer().compose([]))
    dataset = dataset_of(config.dataset)
    tables = {role: json.loads(Path(getattr(config.dataset, role)).read_text(encoding="utf-8")) for role in ("examples", "backgrounds")}
    tokenizer = Tokenizer(config.captioner.tokenizer_path)
    rows = []
    with LlamaEngine(EngineConfig(config.captioner.ckpt_dir, tokenizer_path=config.captioner.tokenizer_path, max_gen_len=64)) as engine:
        for group, seed in itertools.product(GROUPS, range(args.seeds)):
            maker = prompts.make(dataset, PromptsConfig(group=group), tables.__getitem__)
            asked = [maker.prompt(seed, slot, 0) for slot in range(args.captions)]
            texts = [first_line(c.text) for c in engine.generate([Request(p.text, seed=p.seed) for p in asked])]
            rows.append([group, seed, *measures(asked, texts, dataset), f"{tokens(asked, tokenizer):.0f}"])
    head = ["group", "seed", "taken", "different", "distinct-2", "same start", "shared words", "prefill tokens"]
    print(f"{args.captions} captions each, embedded model, temperature 0.8, top-p 0.9, window {WINDOW}")
    for row in [head, *rows]:
        print("  ".join(f"{cell!s:>14}" for cell in row))


def measures(asked, texts, dataset) -> list[str]:
    checks = CaptionsConfig(0, dataset, PromptsConfig(), CaptionerConfig())
    taken = [(p, t) for p, t in zip(asked, texts, strict=True) if not reject_reason(t, p.said, checks)]
    words = [normalised(t).split() for _, t in taken]
    pairs = [pair for w in words for pair in itertools.pairwise(w)]
    starts = Counter(" ".join(w[:3]) for w in words)
    of_class: dict[int, list[set]] = {}
    for (p, _), w in zip(taken, words, strict=True):
        of_class.setdefault(p.label, []).append(set(w))
    shared = [len(a & b) / len(a | b) for sets in of_class.values() for a, b in itertools.combinations(sets, 2)]
    return [
        f"{len(taken) / len(asked):.3f}",
        f"{len({normalised(t) for _, t in taken}) / len(taken):.3f}",
        f"{len(set(pairs)) / len(pairs):.3f}",
        f"{starts.most_common(1)[0][1] / len(taken):.3f}",
        f"{np.mean(shared):.3f}",
    ]


def tokens(asked, tokenizer) -> float:
    """Prompt tokens a caption, if a heading with its examples is computed once a window."""
    total = 0
    for first in range(0, len(asked), WINDOW):
        window = [p.text.rpartition("\n\n") for p in asked[first : first + WINDOW]]
        texts = [*{w[0] for w in window}, *("\n\n" + w[2] for w in window)]
        total += sum(len(ids) for ids in tokenizer.encode(texts)) - len(window)  # without the bos of each query
    return total / len(asked)


if __name__ == "__main__":
    main()
