"""Plans the aggregation: one unit that holds captions.json, from one or several captions stages."""

from launch.kinds import Node
from synth.config import CaptionsJsonConfig, dump
from synth.store.spec import StageSpec


def plan(node: Node) -> list[StageSpec]:
    captions = node.config.captions
    # no `out`: a place in the config of this stage would give other images for another place of the list
    config = CaptionsJsonConfig(total=captions.total, allow_short=captions.allow_short)
    return [node.spec(dump(config), slots=1, unit_size=1, batch=1)]
