"""The stage of a worker on its device: opened when the first unit needs it, let go and opened anew where an error broke it."""

import contextlib
import time
from collections.abc import Callable

from synth.errors import DeviceFailed, InputError
from synth.host import allocation
from synth.host.collecting import few_collections
from synth.host.gpu import free
from synth.run.judgement import Fault, brief, fault_of, forget_frames, is_fatal, judged
from synth.run.stage import Stage
from synth.run.usage import Usage
from synth.store.folder import StageFolder
from synth.store.identity import LISTED, identity
from synth.versions import versions


class CannotOpen(Exception):
    """The stage's open() failed: a bug or a broken device, and nothing about a unit. Ends the worker with exit code 70."""


class Opening:
    """Whether the stage of a worker is open, and what is to be known of that to judge an error."""

    def __init__(self, folder: StageFolder, usage: Usage, log: Callable[..., None]):
        self.folder, self._usage, self._log = folder, usage, log
        self._stage: Stage | None = None  # that is open
        self.broken = False  # by an error from beside the device: the stage is opened anew
        self.fitted = False  # a whole batch was computed since the stage was opened

    def open(self, stage: Stage, flush: Callable[[], None]) -> None:
        """Open it if it is not. flush: waits for what is still beside the device.

        InputError: an input is another than was planned. CannotOpen: no unit is to blame.
        """
        if self.broken:
            self.broken = False
            flush()
            self.free()
        if self._stage is not None:
            return
        self._check_inputs()
        begun = time.monotonic()
        self._stage, self.fitted = stage, False
        try:
            with few_collections():
                stage.open()
        except Exception as e:
            self.close()  # what half of it there is: it may be opened again
            error = self.judged(e)
            if fault_of(error) is Fault.MEMORY and not is_fatal(error):
                error = DeviceFailed(f"the stage was open here before, and its memory is not free any more: {brief(e)}")
            if is_fatal(error) or fault_of(error) is Fault.CHILD:
                raise error from e
            # no unit is to blame: setting them aside one by one, three loads each, would hide that
            raise CannotOpen(f"the stage cannot be opened here: {type(e).__name__}: {e}") from e
        self._usage.load += time.monotonic() - begun
        seconds, gpu = round(time.monotonic() - begun, 3), allocation.gpu()
        self._usage.energy.begin(gpu.get("uuid", ""))
        self._log("open", seconds=seconds, device=allocation.device(), versions=versions(), **gpu, **allocation.torch_facts())

    def _check_inputs(self) -> None:
        for role, file in self.folder.spec.inputs.items():
            if not file.identity.startswith(LISTED) and identity(self.folder.input_path(role)) != file.identity:
                raise InputError(
                    f"{file.path}: input {role!r} changed since {self.folder.path.name} was planned; run the command again to plan anew"
                )

    def close(self) -> None:
        stage, self._stage = self._stage, None
        if stage is not None:
            with contextlib.suppress(Exception):
                stage.close()

    def free(self, error: BaseException | None = None) -> None:
        """Close the stage so that its memory is free before it is opened anew: two models may be more than the device holds."""
        self.close()
        if error is not None:
            forget_frames(error)  # they hold what was computed when it failed
        free()

    def judged(self, error: BaseException) -> BaseException:
        """What an error of the stage means here (see synth.run.judgement)."""
        planned = self.folder.spec.settings.get("memory", {}).get("gpu")  # GB of the GPU that batches were settled for
        return judged(error, planned, self.fitted)
