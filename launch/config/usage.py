"""--help, answered before Hydra is imported: groups as they lie in conf/ and in the user's own folders, common keys, five examples."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from launch.config.aliases import as_typed_key
from launch.config.folders import CONF, own_folders
from launch.config.near import did_you_mean
from launch.config.program import as_typed, help_text
from launch.config.root import GROUPS, LISTS, Config
from synth.errors import InputError
from synth.keys import documented, keys_of

WIDTH = 26  # columns of the key

COMMON = (
    *("seed", "runs_dir", "numerics", "dataset.classes", "dataset.source"),
    *("captions.total", "captions.per_class", "captions.oversample", "captions.seeds", "captions.allow_short"),
    *("images.per_caption", "images.count", "images.subset", "images.guidance_scale", "images.steps", "images.scheduler"),
    *("images.height", "images.width", "images.save_size", "images.format", "images.preset", "images.batch_size", "images.unit_size"),
    *("images.on_oom", "img2img.source", "img2img.noise_strength", "story.prompt_config", "story.style_configs", "features.model"),
    *("cluster.n_jobs", "until", "only", "dry_run", "trial", "retry_failed", "notify.command"),
)
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
    "--help GROUP[=OPTION]": "all keys of a group, or of one of its options",
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
    declared = dict(documented(Config))
    lines += ["", "Common keys (those of a group or of one option: --help images, --help cluster=slurm; values: --cfg job):"]
    lines += [line for key in COMMON for line in _entry(key, declared[key].text)]
    lines += ["", "Examples:"]
    for command, text in EXAMPLES.items():
        lines += [f"  # {text}", f"  {help_text(command)}"]
    lines += ["", *(f"{flag:<24}{text}" for flag, text in FLAGS.items())]
    return "\n".join(lines)


def asked_group(argv: Sequence[str]) -> str:
    """The group, or group=option, behind --help; "" if what stands there is neither.

    >>> asked_group(["--help", "images"]), asked_group(["seed=1", "--help"])
    ('images', '')
    """
    behind = next((argv[n + 1] for n, word in enumerate(argv[:-1]) if word in ("-h", "--help")), "")
    return "" if behind.startswith("-") or ("=" in behind and behind.partition("=")[0] not in GROUPS) else behind


def group_usage(asked: str) -> str:
    """All keys of a group, or of one of its options: "images", "cluster=slurm"; an unknown one is an InputError."""
    group, _, option = asked.partition("=")
    types = GROUPS.get(group, {})
    if option and option not in types:
        # an option whose YAML file adds no keys of its own has those of its group
        known = {path.stem for folder in [*own_folders(), CONF] for path in (folder / group).glob("*.yaml")}
        if option not in known:
            raise InputError(f"--help {asked}: no such option{did_you_mean(option, known)}")
    declared = {name: key for name, key in keys_of(Config).items() if name in GROUPS or dataclasses.is_dataclass(key.given)}
    if group not in declared:
        raise InputError(f"--help {asked}: no such group; there are {', '.join(declared)}{did_you_mean(group, declared)}")
    chosen = types.get(option) or types.get(group) or declared[group].given
    lines = [f"{asked}: {declared[group].help}"]
    hint = [name for name in types if name != group]
    if hint and not option:
        lines.append(f"  and by option: {', '.join(f'--help {group}={name}' for name in hint)}")
    names = {f.name for f in dataclasses.fields(chosen)} if dataclasses.is_dataclass(chosen) else set()
    cls = getattr(chosen, "config_class", None)
    prefix = f"{group}.{option}." if option and group in LISTS else f"{group}."
    for name, key in documented(cls, prefix) if cls is not None else ():
        if name.removeprefix(prefix).partition(".")[0] in names:
            lines += _entry(name, key.text + (f" ({key.allowed})" if key.allowed and not key.choices else ""))
    return "\n".join(lines)


def _entry(key: str, text: str) -> list[str]:
    key = as_typed_key(key)
    return [f"  {key:<{WIDTH + 2}}{text}"] if len(key) < WIDTH + 2 else [f"  {key}", f"  {'':<{WIDTH + 2}}{text}"]


def _groups(folders: Sequence[Path]) -> dict[str, set[str]]:
    """group -> its options in all of the folders."""
    groups: dict[str, set[str]] = {}
    for file in (f for folder in folders for f in folder.glob("*/*.yaml")):
        groups.setdefault(file.parent.name, set()).add(file.stem)
    return groups


def _defaults(config: Path) -> dict[str, list[str]]:
    """group -> default options, read off the defaults list of config.yaml without a YAML parser (0.1 s less)."""
    defaults: dict[str, list[str]] = {}
    for line in config.read_text(encoding="utf-8").splitlines():
        key, colon, value = line.strip().removeprefix("- ").partition(":")
        if line.startswith("  - ") and colon and not key.startswith("override"):
            defaults[key] = [v.strip() for v in value.strip(" []").split(",")]
        elif defaults and not line.strip():
            break
    return defaults
