"""Plans the aggregation: one unit that holds captions.json, from one or several captions stages."""

from launch.plan.node import Node
from launch.plan.totals import wanted
from synth.captions.config import CaptionsJsonConfig
from synth.keys import dump
from synth.store.spec import StageSpec


def plan(node: Node) -> list[StageSpec]:
    total = wanted(node.config, node.upstream.get("captions", ()))
    # no `out`: a place in the config of this stage would give other images for another place of the list
    config = CaptionsJsonConfig(total.captions, node.config.captions.allow_short, total.per_class)
    return [node.spec(dump(config), slots=1, unit_size=1, batch=1)]
