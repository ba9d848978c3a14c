"""The pages of a story against the units that they were made of."""

from synth.store.folder import StageFolder
from synth.verify.exports import Progress, picture, same
from synth.verify.findings import Findings


def story_pages(folder: StageFolder, deep: bool, found: Findings, progress: Progress) -> None:
    """Every file of every chapter is there and whole (deep: byte by byte); story.json and the page are those of the units."""
    from synth.story.pages import StoryPages

    for stored in folder.samples():
        for name, (size, sha256) in stored.json()["files"].items():
            picture(folder.out_dir, name, size, sha256 if deep else "", found)
        progress(1)
    pages = StoryPages(folder)
    pages.check()
    for name, data in pages.whole().items():
        same(folder.out_dir, name, data, found)
