"""--help, answered before Hydra is imported: groups as they lie in conf/ and in the user's own folders, common keys, five examples."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from launch.config.folders import CONF, own_folders
from launch.config.program import as_typed, help_text

WIDTH = 26  # columns of the key

KEYS = {
    "seed": "all randomness of the run; captions.seed and images.seed follow it",
    "runs_dir": "where stages go: <runs_dir>/<dataset>/<stage>-<fingerprint>",
    "dataset.classes": "all, a range such as 0..4 (both included), or [cat,dog]",
    "captions.total, .per_class": "captions in captions.json, or of each class; neither: 8 a class",
    "captions.oversample": "made / wanted: pays for duplicates and failed checks",
    "captions.seeds": "[0,1,2]: several captions stages feed one captions.json",
    "captions.unit_size, .window": "slots that are committed / decoded together",
    "captions.allow_short": "accept fewer captions than asked",
    "images.per_caption": "images a caption",
    "images.count": "images a class instead: a number, or ma: as many as the real training set has",
    "images.subset": "rows of captions.json to draw: 0..99 or [3,10..19]",
    "img2img.source, .noise_strength": "recipe=noise_denoise: the folder of pictures; 0..1, share of the steps that are run",
    "story.prompt_config, .style_configs": "recipe=story: the text and how it is split; styles (docs/story.md)",
    "images.guidance_scale": "weight of the caption; null: the model's own",
    "images.steps, .scheduler": "denoising steps and scheduler; null: the model's own",
    "images.height, .width": "pixels, multiples of 8; null: what the model was trained on",
    "images.save_size, .format": "stored shorter side in pixels (0: as computed); png, jpg, webp",
    "images.preset": "paper: the original's settings | fast: dpm++2m, 20 steps; for keys that are null",
    "images.guidance_interval": "[0.2, 0.8]: guidance in this share of the schedule only, faster",
    "images.on_oom": "fail | split: halve a batch that does not fit on the device",
    "images.batch_size, .unit_size": "images denoised / committed together",
    "numerics": "exact: same bytes whatever n_jobs | fast: autotuned",
    "cluster.n_jobs": "workers; null: one a GPU, without GPUs one a core",
    "cluster.partition, .account, .time": "cluster=slurm: what sbatch gets; all keys in conf/cluster/slurm.yaml",
    "cluster.stages.<kind>.<key>": "cluster=slurm: any of them for one kind of stage",
    "export.<name>.out": "folder of an export; null: below <runs_dir>/<dataset>/exports",
    "until=STAGE": "compute this stage and what it needs, no more",
    "only=[STAGE,..]": "compute these alone; what they read must be whole",
    "dry_run=true": "print the plan; compute and write nothing",
    "retry_failed=true": "try units again that were set aside after three errors",
}
EXAMPLES = {
    "synthset run": "the whole job with small models that ship with it: minutes on a CPU",
    "synthset run dataset.classes=0..4 captions.total=40 dry_run=true": "a smaller one, only planned",
    "synthset run -m seed=0,1 images.guidance_scale=1.5,4": "a sweep: 2 captions stages, 4 images stages",
    "synthset run export=[contact_sheet] export.contact_sheet.out=sheet": "choose the exports and their place",
    "LLAMA_FOLDER=/llama synthset run captioner=llama2_7b model=diffusers model.path=/sd15 "
    "images.height=512 images.width=512": "models of your own",
}
FLAGS = {
    "-m, --multirun": "sweep over comma-separated values",
    "--cfg job": "print the composed config and stop",
    "--config-dir DIR": "YAML files of your own, laid out like conf/: dataset/mine.yaml is dataset=mine",
    "SYNTHSET_CONF=DIR": "environment: such folders for every command, several as in PATH; what is found first wins, conf/ is last",
    "--hydra-help": "Hydra's own flags",
}


def usage(argv: Sequence[str] = ()) -> str:
    """The whole help text; argv may name a --config-dir. A folder that cannot be read is an InputError."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    own = own_folders(parser.parse_known_args(argv)[0].config_dir)
    lines = [
        "synthset: labelled synthetic image datasets from class names.",
        "",
        f"usage: {as_typed('run')} [-m] [GROUP=OPTION ...] [KEY=VALUE ...]",
        "",
        "The same command again goes on where it stopped and repairs what is missing.",
        "Exit codes: 0 done, 75 stopped (run it again), 65 bad input, 70 a unit failed three times.",
        "",
        "Groups (the default is marked *; lists are written export=[a,b]):",
    ]
    chosen = _defaults(next(p for f in (*own, CONF) if (p := f / "config.yaml").is_file()))
    for group, options in sorted(_groups([*own, CONF]).items()):
        marked = ", ".join(f"{o}*" if o in chosen.get(group, ()) else o for o in sorted(options))
        lines.append(f"  {group:<{WIDTH}}  {marked}")
    lines += [f"  with those of {folder}" for folder in own]
    lines += ["", "Common keys (all of them, with their defaults: --cfg job; each YAML of conf/ explains its own):"]
    for key, text in KEYS.items():
        lines.append(f"  {key:<{WIDTH + 2}}{text}" if len(key) < WIDTH + 2 else f"  {key}\n  {'':<{WIDTH + 2}}{text}")
    lines += ["", "Examples:"]
    for command, text in EXAMPLES.items():
        lines += [f"  # {text}", f"  {help_text(command)}"]
    lines += ["", *(f"{flag:<20}{text}" for flag, text in FLAGS.items())]
    return "\n".join(lines)


def _groups(folders: Sequence[Path]) -> dict[str, set[str]]:
    """group -> its options in all of the folders."""
    groups: dict[str, set[str]] = {}
    for file in (f for folder in folders for f in folder.glob("*/*.yaml")):
        groups.setdefault(file.parent.name, set()).add(file.stem)
    return groups


def _defaults(config: Path) -> dict[str, list[str]]:
    """group -> default options, read off the defaults list of config.yaml without a YAML parser (0.1 s less)."""
    found: dict[str, list[str]] = {}
    for line in config.read_text(encoding="utf-8").splitlines():
        key, colon, value = line.strip().removeprefix("- ").partition(":")
        if line.startswith("  - ") and colon and not key.startswith("override"):
            found[key] = [v.strip() for v in value.strip(" []").split(",")]
        elif found and not line.strip():
            break
    return found
