"""What a stage kind is to the worker."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from synth.kinds import config_of
from synth.run.findings import Check
from synth.store.samples import Sample, Tombstone, Unit

if TYPE_CHECKING:
    from synth.store.folder import StageFolder
    from synth.store.units import Stored


class Stage:
    """A stage kind. The worker calls, in this order and each from the main thread unless noted:

    check()            once, before anything is loaded: bad input raises InputError
    open()             once, before the first unit: load models (only when there is a unit to do)
    begin(unit)        once a unit: what its batches share (rows of the upstream, text embeddings); its result is `state`
    resume(state, stop, stored)  once, behind begin, if the slots of the unit up to `stop` are done already: their samples, in slot order
    compute(state, slots)   once a batch, always whole, in slot order: one item a slot, in order. Short last batches are the
                       stage's to pad. Anything slow that needs no device belongs in encode
    encode(state, item)     in a thread pool beside the device, one item at a time: Sample or Tombstone
    finish()           when the stage is whole, by whoever finds it so: writes what lies outside units/; idempotent, atomic
    close()            at the end, or before the stage is opened anew
    verify(check)      whenever somebody asks whether what it wrote is still as it was, of a whole stage that nobody opened
    """

    workers = 1  # that share the stage, as its worker was told: it may say what pays, never what is made
    deterministic: ClassVar[bool] = True  # False: API-backed; differing digests of one unit are then no error

    def __init__(self, folder: "StageFolder"):
        self.folder, self.config = folder, config_of(folder)

    @property
    def promised(self) -> bool:
        """Whether a unit has the same bytes whoever makes it: by what the stage asks, and by its numerics."""
        return self.deterministic and bool(self.folder.spec.numerics.get("deterministic", True))

    def check(self) -> None: ...

    def open(self) -> None: ...

    def unit_inputs(self, unit: Unit) -> str:
        """Digest of the upstream rows that this unit is a function of; "" if it depends on the config alone.

        Units of a stage that differs only in slots or upstream are linked instead of computed where this agrees. The default
        is safe for any stage: all of its upstream stages.
        """
        return "+".join(u.fingerprint for role in sorted(self.folder.spec.upstream) for u in self.folder.spec.upstream[role])

    def begin(self, unit: Unit) -> Any:
        return None

    def resume(self, state: Any, stop: int, stored: Sequence["Stored"]) -> None:
        """Bring `state` to where compute left it when it had made `stored`; only a stage whose batches build on earlier ones needs it."""
        return

    def compute(self, state: Any, slots: range) -> Sequence[Any]:
        raise NotImplementedError

    def warmed_up(self) -> bool:
        """Asked once after each compute: whether that batch also paid for what later ones have (kernels compiled for its shape), so that
        the time it took says nothing of theirs."""
        return False

    def encode(self, state: Any, item: Any) -> Sample | Tombstone:
        raise NotImplementedError

    def finish(self) -> None: ...

    def verify(self, check: Check) -> None:
        """Add what is wrong with what a whole stage wrote outside units/."""

    def hopeless(self, reasons: Mapping[str, int], whole: bool = False) -> str:
        """Why to stop instead of making more of the same; "" to go on. Asked while nothing of the stage has a sample.

        reasons: of the slots that were made and stayed empty, without what is each one's own -> how many. whole: these are all there are.
        """
        return ""

    def usage(self) -> Mapping[str, float]:
        """What this process spent outside so far (requests, tokens, price), for the worker's events."""
        return {}

    def close(self) -> None: ...
