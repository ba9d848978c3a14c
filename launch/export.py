"""Export pictures that are there already, from their stage folder alone.

    synthset export runs/pictures/images-0123456789ab 'export=[hdf5]' export.hdf5.out=/data/pictures
    synthset export STAGE_DIR 'export=[image_folder,hdf5]' cluster=slurm cluster.partition=cpu

STAGE_DIR is an images stage, a filter of one, a stage of tracking pairs or of layout labels, that is whole. No recipe, model or captioner
is needed, but features.model for export.layout_labels.embeddings=true. Settings are those of synthset run that speak of exports and of
where to run: export, features, cluster, dry_run, retry_failed. Exports that are done stay as they are; one that was stopped goes on by
the same command. A sweep is written -m, as for synthset run.

Exit codes: 0; 75 run it again; 65 bad input; 70 a bug.
"""

if __name__ == "__main__":  # python launch/export.py and python -m launch.export are synthset export
    import runpy

    runpy.run_path(f"{__file__.rpartition('/')[0]}/__main__.py", {"COMMAND": "export"}, "__main__")

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from launch.config.program import as_typed, folders_of, help_text
from launch.plan.planned import PlannedStage
from launch.run import Session
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK, InputError, tool
from synth.store.folder import StageFolder

TAKES = ("export", "features", "cluster", "dry_run", "plan_only", "retry_failed", "notify", "hydra")


class ExportSession(Session):
    """A session whose recipe is one stage that is there."""

    def __init__(self, folder: StageFolder):
        super().__init__()
        self.folder = folder

    def check(self, argv: Sequence[str]) -> None:
        for word in argv:
            key = word.lstrip("+~").partition("=")[0]
            if "=" in word and not word.startswith("-") and key.replace("/", ".").partition(".")[0] not in TAKES:
                raise InputError(
                    f"{word}: {as_typed('export')} takes {', '.join(TAKES[:-1])}; "
                    f"{self.folder.path} is made already, as its stage.json says"
                )
        super().check(list(argv))

    def planned(self, config, label: str):
        """The exports of the stage; all of them may be computed, and the stage must be whole."""
        from launch.config.root import Recipe, RecipeStage
        from launch.plan.graph import plan_point

        if not config.export:
            raise InputError("export=[]: nothing to export; choose export=[hdf5], for example")
        name, root = self.folder.spec.name, self.folder.path.parent
        config = replace(
            config,
            recipe=Recipe(name=self.folder.path.name, stages={name: RecipeStage(self.folder.spec.kind)}, exports_of=name),
            filter={},
            runs_dir=str(root.parent),
            dataset=replace(config.dataset, name=root.name),
            until=None,
            only=list(config.export),
        )
        return plan_point(config, label, {name: PlannedStage(self.folder.spec, root)}, self.command)


def stage_at(path: str) -> StageFolder:
    """The stage in a folder that exports can be made of; anything else is an InputError."""
    from synth.kinds import chosen_by, kind_of
    from synth.reading.stage import StageReader

    folder = StageFolder.open(Path(path).expanduser())
    spec = folder.spec
    if folder.path.name != spec.folder_name:
        raise InputError(f"{folder.path}: was renamed after it was planned; its name is {spec.folder_name}")
    exported = {what for kind in chosen_by("export").values() if kind.role == "images" for what in kind.of}
    if any(exported.isdisjoint(kind_of(source.spec.kind).makes) for source in StageReader(folder).sources):
        raise InputError(
            f"{folder.path}: is of kind {spec.kind}, which holds no pictures; "
            "give the folder of an images stage, of a filter, of pairs or of layout labels"
        )
    return folder


def main(argv: list[str]) -> int:
    """The exit code."""
    if {"-h", "--help"} & set(argv) or not argv:
        print(help_text(__doc__))
        return EXIT_OK if argv else EXIT_BAD_INPUT
    from launch.run import planned_and_run

    def work() -> int:
        folders = folders_of(argv)
        if len(folders) != 1:
            raise InputError(f"{' '.join(folders) or 'no folder'}: give one stage folder, and settings as key=value")
        return planned_and_run(ExportSession(stage_at(folders[0])), [w for w in argv if w != folders[0]])

    try:
        return tool(work)
    except KeyboardInterrupt:  # while planning: afterwards the clusters catch it themselves
        print("stopped before anything was begun", file=sys.stderr)
        return EXIT_AGAIN
