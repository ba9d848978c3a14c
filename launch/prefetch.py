"""Fetch a model where there is a network.

Compute nodes have no network and never try it. Run this once on a login node:

    export SYNTHSET_MODELS=/scratch/me/models      # a folder that compute nodes see; keep the line in your ~/.bashrc
    synthset prefetch model=sdxl
    synthset run model=sdxl                # finds it there

The model comes from the repository and the commit that conf/model/NAME.yaml names, into $SYNTHSET_MODELS/NAME. Further models
of a chain (refiner, prior) go to NAME-PART beside it, and are named in the run: the last line printed shows how. What a branch
stood at is recorded in NAME.json, and stays so until --update. A broken fetch goes on, by whole files: run the command again.

Any repository: model=diffusers model.id=mine model.repo=ORG/NAME, or captioner=hf captioner.repo=ORG/NAME. The models of layout
labels: tagger=[vocabulary] detector=mm_grounding_dino segmenter=sam2. The model of features, which filters and the judge read:
features.repo=facebook/dinov2-base.

Some makers want you to accept a licence first: do so on the model's page, then export HF_TOKEN=... with a token of yours.

Exit code 0: all is there. 65: something to mend, it is said what. 75: run the same command again.
"""

if __name__ == "__main__":  # python launch/prefetch.py and python -m launch.prefetch are synthset prefetch
    import runpy

    runpy.run_path(f"{__file__.rpartition('/')[0]}/__main__.py", {"COMMAND": "prefetch"}, "__main__")

import argparse
import sys
from collections.abc import Sequence

from launch.config.check import check
from launch.config.compose import Composer, typed
from launch.config.program import as_typed, help_text
from launch.plan.fetching import ROOT, Fetch, Hub, fetch_of, fetches, place
from synth.errors import EXIT_AGAIN, EXIT_OK, InputError, tool
from synth.images.families import family_class
from synth.images.model_folder import INDEX, inspect, pipeline_of

GROUPS = ("model", "captioner", "tagger", "detector", "segmenter", "box_captioner", "features")


def planned(overrides: Sequence[str], parts: bool, config_dir: str | None = None) -> list[Fetch]:
    """What the overrides name. InputError if that is nothing."""
    named = {group: any(o.startswith((f"{group}=", f"{group}.")) for o in overrides) for group in GROUPS}
    if not any(named.values()):
        raise InputError(
            "nothing to fetch: name a model, for example model=sd15 (see conf/model), captioner=hf captioner.repo=ORG/NAME, "
            "or detector=mm_grounding_dino segmenter=sam2 of layout labels"
        )
    line = check([*overrides, *(["--config-dir", config_dir] if config_dir is not None else [])])
    config = typed(Composer(config_dir).compose([o.input_line or "" for o in line.overrides]))
    wanted = fetches(config.model, config.captioner, named, parts)
    models = {f"tagger.{name}": tagger for name, tagger in config.tagger.items()}
    models |= {group: getattr(config, group) for group in ("detector", "segmenter", "box_captioner") if named[group]}
    wanted += [fetch for group, model in models.items() if (fetch := fetch_of(group, model))]
    if named["features"] and (fetch := fetch_of("features", config.features, "features.model")):
        wanted.append(fetch)
    if not wanted:
        group = next(group for group in GROUPS if named[group])
        repo = "tagger.NAME.repo" if group == "tagger" else f"{group}.repo"
        raise InputError(
            f"{' '.join(overrides)}: names no repository; give {repo}=ORG/NAME, or choose an option of conf/{group} that has one"
        )
    return wanted


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=as_typed("prefetch"), description=help_text(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as of run: model=NAME, captioner=hf ...")
    parser.add_argument("--to", metavar="DIR", help=f"folder of models; default: ${ROOT}")
    parser.add_argument("--config-dir", metavar="DIR", help="YAML files of your own, laid out like conf/")
    parser.add_argument("--no-parts", action="store_true", help="leave further models of a chain out (sdxl's refiner)")
    parser.add_argument("--update", action="store_true", help="ask again what a branch stands at")
    parser.add_argument("--dry-run", action="store_true", help="print what would be fetched, and where to")
    args = parser.parse_args(argv)

    def work() -> int:
        todo = planned(args.overrides, not args.no_parts, args.config_dir)
        folders = {f: place(f.name, args.to) for f in todo}
        if None in folders.values():
            raise InputError(f"where to? export {ROOT}=DIR, a folder that compute nodes see, or use --to DIR")
        for what, folder in folders.items():
            print(f"{what.repo} at {what.revision} -> {folder}", flush=True)
        if args.dry_run:
            return EXIT_OK
        hub = Hub()
        for what, folder in folders.items():
            record = hub.fetch(what, folder, args.update)
            if (folder / INDEX).is_file():
                uses = family_class(pipeline_of(folder)).uses
                inspect(folder, variant=what.variant, uses=uses)  # whole, as the planner will ask it to be
            print(f"{folder}: whole, commit {record.commit}", flush=True)
        print("use it with: " + " ".join([*args.overrides, *(f"{w.key}={f}" for w, f in folders.items())]))
        return EXIT_OK

    try:
        return tool(work)
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return EXIT_AGAIN
