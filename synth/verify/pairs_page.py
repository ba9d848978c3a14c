"""The page of tracking pairs against the unit that it was made of."""

from synth.store.folder import StageFolder
from synth.verify.exports import Progress, picture, same
from synth.verify.findings import Findings


def pairs_page(folder: StageFolder, deep: bool, found: Findings, progress: Progress) -> None:
    """Every picture and the sheet are there and whole (deep: byte by byte); the page is that of the unit."""
    from synth.tracking.page import INDEX, PairsPage

    page = PairsPage(folder)
    page.check()
    said = page.said()
    for name, (size, sha256) in said["files"].items():
        picture(folder.out_dir, name, size, sha256 if deep else "", found)
    same(folder.out_dir, INDEX, page.page(said), found)
    progress(1)
