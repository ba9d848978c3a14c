"""How each stage kind is planned: composed config + upstream stages -> StageSpec. A small module a kind, imported when used."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launch.planned import PlannedStage
from launch.schema import Config, Export, Filter
from synth.errors import InputError
from synth.store.spec import InputFile, StageSpec, Upstream

PLANNERS = {
    "captions": "launch.kinds.captions:plan",
    "metaprompts": "launch.kinds.asking:metaprompts",
    "prompt_trees": "launch.kinds.asking:prompt_trees",
    "backgrounds": "launch.kinds.asking:backgrounds",
    "captions_json": "launch.kinds.captions_json:plan",
    "images": "launch.kinds.images:plan",
    "img2img": "launch.kinds.img2img:plan",
    "story": "launch.kinds.story:plan",
    "pairs": "launch.kinds.pairs:plan",
    "image_folder": "launch.kinds.exports:image_folder",
    "hdf5_parts": "launch.kinds.exports:hdf5_parts",
    "hdf5": "launch.kinds.exports:hdf5",
    "webdataset": "launch.kinds.exports:webdataset",
    "parquet": "launch.kinds.exports:parquet",
    "captions_txt": "launch.kinds.exports:captions_txt",
    "contact_sheet": "launch.kinds.exports:contact_sheet",
    "story_pages": "launch.kinds.story:pages",
    "annotations": "launch.kinds.pairs:annotations",
    "pairs_page": "launch.kinds.pairs:page",
    "probe": "launch.kinds.probe:plan",
    "pool": "launch.kinds.scores:pool",
    "clip_features": "launch.kinds.scores:clip_features",
    "perceptual_hash": "launch.kinds.scores:perceptual_hash",
    "clip_score": "launch.kinds.filters:clip_score",
    "label_agreement": "launch.kinds.filters:label_agreement",
    "near_duplicates": "launch.kinds.filters:near_duplicates",
    "balance": "launch.kinds.filters:balance",
    "ensemble": "launch.kinds.filters:ensemble",
}


@dataclass(frozen=True)
class Node:
    """One node of the recipe's graph, ready to be planned."""

    name: str
    kind: str
    config: Config
    dataset_root: Path
    upstream: Mapping[str, tuple[PlannedStage, ...]] = field(default_factory=dict)  # role -> stages
    settings: Export | Filter | None = None  # of an export or a filter
    command: str = ""  # that plans this

    def one(self, role: str) -> StageSpec:
        """The only stage of a role."""
        found = self.upstream.get(role, ())
        if len(found) != 1:
            msg = f"recipe stage {self.name}: needs one upstream in role {role!r}, has {len(found)}; mend conf/recipe/*.yaml"
            raise InputError(msg)
        return found[0].spec

    def spec(
        self,
        config: Mapping,
        slots: int,
        unit_size: int,
        batch: int,
        inputs: Mapping[str, InputFile] | None = None,
        settings: Mapping | None = None,
    ) -> StageSpec:
        """The spec of this node: numerics, versions and references to the upstream stages are the same for all kinds."""
        from synth.numerics import PRESETS
        from synth.versions import versions

        ups = {role: tuple(self._reference(s) for s in stages) for role, stages in self.upstream.items()}
        return StageSpec(
            kind=self.kind,
            name=self.name,
            config=config,
            slots=slots,
            unit_size=unit_size,
            batch=min(batch, unit_size),
            numerics=dict(PRESETS[self.config.numerics]),
            upstream=ups,
            inputs=inputs or {},
            versions=versions(),
            settings=dict(settings or {}) | self._licence(config),
        )

    def _licence(self, config: Mapping) -> dict[str, str]:
        """The licence of the model of an images stage, for the cards of its exports."""
        licence = self.config.model.licence
        return {"licence": licence} if licence and isinstance(config.get("model"), Mapping) else {}

    def _reference(self, stage: PlannedStage) -> Upstream:
        """Relative to the stage folder, so that a dataset can be moved as a whole; absolute for a stage that lies elsewhere."""
        beside = stage.dataset_root == self.dataset_root
        return Upstream(f"../{stage.spec.folder_name}" if beside else str(stage.folder), stage.spec.fingerprint)


def planner(kind: str) -> Callable[[Node], list[StageSpec | PlannedStage]]:
    """The planning function of a kind, imported now. A stage that was planned before comes as it is, a PlannedStage."""
    if kind not in PLANNERS:
        msg = f"stage kind {kind!r}: cannot be planned; there are {', '.join(sorted(PLANNERS))}"
        raise InputError(msg)
    module, name = PLANNERS[kind].split(":")
    return getattr(importlib.import_module(module), name)
