"""What the stages of layout labels share that have one model: its folder judged, the model loaded and given up."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from synth import numerics
from synth.host.gpu import free
from synth.layout.stage import LayoutStage


class ModelStage(LayoutStage):
    apply: ClassVar[Callable[[Mapping[str, Any]], dict[str, Any]]] = staticmethod(numerics.apply_to_text)
    model: Any = None

    @abstractmethod
    def made(self) -> Any:
        """The model of the config, its folder judged, not loaded."""

    def check(self) -> None:
        super().check()
        self.made()

    def open(self) -> None:
        super().open()
        now = self.apply(self.folder.spec.numerics)
        self.model = self.made()
        self.model.open(now["dtype"])

    def close(self) -> None:
        super().close()
        self.model = None
        free()
