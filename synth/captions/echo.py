"""Engine `none`: for prompt makers whose text is the caption already. It asks nobody, so it costs nothing."""

from collections.abc import Sequence

from synth.captions.engines import Reply, Request
from synth.store.folder import StageFolder


class Echo:
    """Answers every request with its own text."""

    def check(self) -> None: ...

    def start(self) -> None: ...

    def generate(self, requests: Sequence[Request]) -> list[Reply]:
        return [Reply(r.text) for r in requests]

    def close(self) -> None: ...


def from_stage(folder: StageFolder) -> Echo:
    return Echo()
