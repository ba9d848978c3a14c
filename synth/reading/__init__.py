"""Reading what stages hold, as people, filters and exports do: `open_stage`, and a torch Dataset, which imports torch when it is used."""

import importlib
from typing import Any

from synth.reading.sample import NoSample, StageSample
from synth.reading.stage import StageReader, open_stage

__all__ = ["NoSample", "StageReader", "StageSample", "TorchDataset", "open_stage"]


def __getattr__(name: str) -> Any:
    if name == "TorchDataset":
        return importlib.import_module("synth.reading.torch_dataset").TorchDataset
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
