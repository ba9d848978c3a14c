"""Where a chain of layout stages has its pictures: slot k of each of its stages is picture k of the source.

The source is a folder, whose listing lies in the folder of the chain's first stage, or a stage of pictures. Each stage of the chain names
it as an input of its own, so that any worker, and any export, can read pictures.
"""

from synth.images.sources.listing import NAME, Listing
from synth.images.sources.pictures import Pictures
from synth.images.sources.read import ListedSource, StageSource
from synth.store.folder import StageFolder

KEY = "layout.source"
SOURCE = "source"  # input of each stage of the chain whose pictures lie in a folder
IMAGES = "images"  # else the role in which each of them reads a stage of pictures
PUT_BACK = "put it back as it was when it was labelled, and run the command again"
ROLE = "layout"  # in which a stage of the chain reads the one before it


class PictureSource(Pictures):
    """The pictures of a chain, as any of its stages names them."""

    def __init__(self, folder: StageFolder):
        super().__init__(_source_of(folder), folder.spec.slots, KEY)


def _source_of(folder: StageFolder) -> ListedSource | StageSource:
    if stages := folder.upstream(IMAGES):
        return StageSource(stages[0], None)
    listing = Listing(first_of(folder).path / NAME, folder.input(SOURCE).identity)
    return ListedSource(folder.input_path(SOURCE), listing, (), {0: ""}, KEY)


def first_of(folder: StageFolder) -> StageFolder:
    """The first stage of the chain that a stage belongs to."""
    while stages := folder.upstream(ROLE):
        folder = stages[0]
    return folder
