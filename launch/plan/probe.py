"""Plans the probe: a stage for tests that misbehaves on request."""

from launch.plan.node import Node
from synth.keys import dump
from synth.run.config import ProbeConfig
from synth.store.spec import StageSpec


def plan(node: Node) -> list[StageSpec]:
    p = node.config.probe
    config = ProbeConfig(p.seed, p.size, p.sleep, {str(k): dict(v) for k, v in (p.behaviour or {}).items()}, p.framing)
    return [node.spec(dump(config), p.slots, p.unit_size, p.batch_size)]
