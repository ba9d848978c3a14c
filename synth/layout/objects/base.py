"""What stages have in common that read records of layout labels and no picture."""

from collections.abc import Mapping

from synth.layout.records import Record
from synth.layout.source import ROLE
from synth.layout.stage import records_of
from synth.run.stage import Stage
from synth.store.samples import Unit
from synth.store.spec import digest


class OfRecords(Stage):
    """The state of a unit: slot -> its record in the stage before, or the reason why it has none."""

    def unit_inputs(self, unit: Unit) -> str:
        """The records of the stage before."""
        return digest([record if isinstance(record, str) else record.to_json() for record in self.begin(unit).values()])

    def begin(self, unit: Unit) -> Mapping[int, Record | str]:
        return dict(records_of(self.folder.upstream(ROLE)[0], unit.start, unit.stop))
