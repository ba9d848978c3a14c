"""What LoRAs that a run trains are worth on the toys that ship: pictures drawn without, with one for each class, with one for all.

    python -m tests.bench.lora PLACE [--classes 0..19] [--shots 8] [--steps 200] [--rate 0.001] [--captions 8] [--each 3] [--test 600]

The real pictures are renders of drawings by artists whose drawings the small models never saw. `nearest`: mean cosine similarity of a
picture to the nearest of the real ones of its class that LoRAs were trained on, in features of the small CLIP; accuracy: of a linear probe
on the pictures, asked about other renders of these drawings, with 95 % intervals; its difference to `without`, by the same test pictures.
PLACE keeps the runs: the same command again goes on.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from launch.config.compose import Composer, typed
from launch.plan.graph import plan_point
from synth.errors import EXIT_OK
from synth.features.reading import FeatureSet, load
from synth.judge.numbers.intervals import interval
from synth.store.folder import StageFolder
from tests.launch.conftest import REPO, environment

POINTS = {"without": None, "a LoRA for each class": "class", "one for all": "all"}


def renders(folder: Path, count: int, seed: int) -> Path:
    words = ["--count", str(count), "--seed", str(seed), "--held-out"]
    subprocess.run([sys.executable, "-m", "synth.embedded.pictures.folders", folder, *words], check=True, env=environment(), cwd=REPO)
    return folder


def made(words: list[str]) -> dict[str, StageFolder]:
    """name -> stage of a run, each of them whole."""
    subprocess.run([sys.executable, REPO / "launch/run.py", *words], check=True, env=environment(), stdout=subprocess.DEVNULL)
    return {s.name: StageFolder.open(s.folder) for s in plan_point(typed(Composer().compose(words))).stages}


def nearest(pictures: FeatureSet, real: FeatureSet, shots: dict[str, list[str]]) -> float:
    """Mean over pictures of the cosine similarity to the nearest of the real pictures that stand in `shots` (class -> names)."""
    names = {s.slot: s.json().get("file") for s in real.folder.samples()}
    found = []
    for name, files in shots.items():
        rows = [n for n, slot in enumerate(real.slots) if names[slot] in files]
        of_class = pictures.features[pictures.labels == pictures.classes.index(name)]
        found.append((of_class @ real.features[rows].T).max(1))
    return float(np.concatenate(found).mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", type=Path)
    parser.add_argument("--classes", default="0..19")
    for name, default in (("shots", 8), ("steps", 200), ("captions", 8), ("each", 3), ("test", 600)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rate", type=float, default=0.001)
    args = parser.parse_args()
    place = args.place.absolute()
    real, test = renders(place / "real", 20 * args.shots, 1), renders(place / "test", args.test, 2)
    common = [
        f"runs_dir={place / 'runs'}", f"dataset.classes={args.classes}", f"captions.per_class={args.captions}",
        f"images.per_caption={args.each}", "images.guidance_scale=2", "export=[contact_sheet]", f"judge.real={real}", f"judge.test={test}",
    ]  # fmt: skip
    training = [f"lora.real={real}", f"lora.per_class={args.shots}", f"lora.steps={args.steps}", f"lora.learning_rate={args.rate}"]
    points = {name: made(common + ([*training, f"lora.scope={scope}"] if scope else [])) for name, scope in POINTS.items()}
    told = [s.json() for s in points["a LoRA for each class"]["lora"].samples() if "pictures" in s.json()]
    shots = {record["lora"].replace("_", " "): record["pictures"] for record in told}
    print("| pictures | nearest | CMMD | coverage, clipped | accuracy | difference |\n| --- | --- | --- | --- | --- | --- |")
    plain = None
    for name, stages in points.items():
        out = stages["judge_report"].out_dir
        facts, right = json.loads((out / "judge.json").read_text()), np.load(out / "correct.npy").astype(float)  # [S, M]
        plain = right if plain is None else plain
        more, accuracy, numbers = interval(right - plain, 0), facts["probes"]["made"]["accuracy"], facts["numbers"]
        near = nearest(load(stages["features"]), load(stages["real_features"]), shots)
        half = (accuracy["high"] - accuracy["low"]) / 2
        difference = f"{more.value:+.3f} [{more.low:.3f}, {more.high:.3f}]" if right is not plain else ""
        row = [name, f"{near:.3f}", f"{numbers['cmmd']['value']:.3f}", f"{numbers['clipped_coverage']['value']:.3f}"]
        print(f"| {' | '.join(row)} | {accuracy['value']:.3f} +- {half:.3f} | {difference} |")
    print(f"real: as many real pictures give {facts['probes']['real']['accuracy']['value']:.3f}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
