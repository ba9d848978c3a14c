"""How each stage kind is planned: composed config + upstream stages -> StageSpec. A small module a kind, imported when used."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.config.root import Config
from launch.plan.planned import PlannedStage
from synth.errors import InputError
from synth.kinds import framing_of, kind_of, named
from synth.store.folder import StageFolder
from synth.store.names import own_roles
from synth.store.spec import InputFile, StageSpec, Upstream


@dataclass(frozen=True)
class Node:
    """One node of the recipe's graph, ready to be planned."""

    name: str
    kind: str
    config: Config
    dataset_root: Path
    upstream: Mapping[str, tuple[PlannedStage, ...]] = field(default_factory=dict)  # role -> stages
    settings: Any = None  # config of the filter or export that this is or serves: its planner knows the class by the kind
    command: str = ""  # that plans this
    known: Mapping[Path, PlannedStage] = field(default_factory=dict)  # by folder, what was planned before it: maybe no folder is there yet

    def one(self, role: str) -> StageSpec:
        """The only stage of a role."""
        stages = self.upstream.get(role, ())
        if len(stages) != 1:
            raise InputError(f"recipe stage {self.name}: needs one upstream in role {role!r}, has {len(stages)}; mend conf/recipe/*.yaml")
        return stages[0].spec

    def above(self, stage: PlannedStage) -> list[PlannedStage]:
        """The stages that a stage is made of, by role and in order: as they are planned, else as they are there."""
        roles = stage.spec.upstream
        folders = [Path(os.path.normpath(stage.folder / up.path)) for role in own_roles(stage) for up in roles[role]]
        return [self.known.get(f) or PlannedStage(StageFolder.open(f).spec, f.parent) for f in folders]

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
            framing=framing_of(self.kind, config),
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


def planner(kind: str) -> Callable[[Node], Sequence[StageSpec | PlannedStage]]:
    """The planning function of a kind, imported now. A stage that was planned before comes as it is, a PlannedStage."""
    return named(kind_of(kind).planner)
