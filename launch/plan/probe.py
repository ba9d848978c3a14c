"""Plans the probe: a stage for tests that misbehaves on request."""

from dataclasses import replace

from launch.plan.node import Node
from synth.keys import dump
from synth.store.spec import StageSpec


def plan(node: Node) -> list[StageSpec]:
    probe = node.config.probe
    config = replace(probe, behaviour={str(k): dict(v) for k, v in (probe.behaviour or {}).items()})
    return [node.spec(dump(config), probe.slots, probe.unit_size, probe.batch_size)]
