"""The worker side of synthset: computes stages from their folders alone. Imports no hydra and no submitit.

`synth.open_stage(path)` reads a stage; it is imported when it is used, so that this package stays light.
"""

import importlib

__all__ = ["open_stage"]


def __getattr__(name: str):
    if name == "open_stage":
        return importlib.import_module("synth.reading").open_stage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
