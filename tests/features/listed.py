"""Stages of pictures that lie in a folder, listed as planning lists them."""

from pathlib import Path

from synth.images.sources import reader
from synth.images.sources.listing import NAME, ListingWriter
from synth.images.sources.read import digested
from synth.keys import dump
from synth.kinds import framing_of
from synth.numerics import EXACT
from synth.store.folder import StageFolder
from synth.store.spec import InputFile, StageSpec


def listed_stage(root: Path, kind: str, config, source: Path, inputs=None, layout: str = "files", texts: int = 0) -> StageFolder:
    """A planned stage of the pictures of a folder, whose classes the config has."""
    writer = ListingWriter()
    for item in digested(reader(layout, source, False), source):
        writer.add(item)
    listing, identity = writer.finish()
    given = {"source": InputFile(str(source), identity), **(inputs or {})}
    spec = StageSpec(
        kind, kind, dump(config), writer.n + texts, 8, 4, EXACT, {}, given, framing=framing_of(kind, {}), files={NAME: listing}
    )
    return StageFolder.create(root, spec)
