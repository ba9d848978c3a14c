"""The exports of tracking pairs against the units that they were made of."""

from synth.store.folder import StageFolder
from synth.verify.exports import AGAIN, Progress, file_digest
from synth.verify.findings import Findings


def annotations(folder: StageFolder, deep: bool, found: Findings, progress: Progress) -> None:
    """The file is there, of its size (deep: of its digest); so is the card."""
    from synth.export.card import CARD
    from synth.tracking.annotations import NAME, facts

    said, path = facts(folder), folder.out_dir / NAME
    if not path.exists():
        found.add(path, "missing; --repair lets the next run of the same command write it again", file=NAME)
    elif path.stat().st_size != said["bytes"] or (deep and file_digest(path) != said["sha256"]):
        found.add(path, f"was edited or torn since it was written; {AGAIN}", file=NAME)
    if not (folder.out_dir / CARD).exists():
        found.add(folder.out_dir / CARD, "missing; --repair lets the next run of the same command write it again", file=CARD)
    progress(1)
