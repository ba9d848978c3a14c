"""What a stage says of itself while slots of it, or of what it reads, are made again (synth.run.reopened): two marks in its folder."""

from pathlib import Path

from synth.store.files import storing, write_atomic
from synth.store.spec import canonical

DOUBTED, REOPENING = "doubted.json", "reopening.json"
OPENED_NOW = (
    "slots of it are being opened, or that was interrupted: "
    "run clean RUNS_DIR --tombstones=retry --yes to its end, then the same command again"
)
OUT_OF_STEP = "what it reads was made again in part, and its units were not compared with that: run the command that made the stage again"


class Marks:
    """Those of one stage. Setting one also takes back that the stage is done."""

    def __init__(self, path: Path):
        self._path = path

    def begin(self) -> None:
        """Units of it are about to be put beside: until `end` nobody works on it, nor on what is made of it."""
        self._mark(REOPENING, b"{}\n")

    def is_on(self) -> bool:
        return (self._path / REOPENING).exists()

    def end(self) -> None:
        self._unmark(REOPENING)

    def doubt(self, stage: str) -> None:
        """A stage that this one reads, directly or not, is made again in part: units may be of rows that are not there any more."""
        self._mark(DOUBTED, canonical({"upstream": stage}) + b"\n")

    def in_doubt(self) -> bool:
        return (self._path / DOUBTED).exists()

    def in_step(self) -> None:
        """Its units were compared with what it reads."""
        self._unmark(DOUBTED)

    def settled(self) -> bool:
        """Whether units that are there are to stay, as far as is known."""
        return not self.in_doubt() and not self.is_on()

    def why(self) -> str:
        """Why units that are there may not stay, and what to do; "": they are settled."""
        return OPENED_NOW if self.is_on() else OUT_OF_STEP if self.in_doubt() else ""

    def _mark(self, name: str, data: bytes) -> None:
        with storing(self._path):
            write_atomic(self._path / name, data)
            (self._path / "done.json").unlink(missing_ok=True)

    def _unmark(self, name: str) -> None:
        with storing(self._path):
            (self._path / name).unlink(missing_ok=True)
