"""Weights as transformers and diffusers load them: a tensor that no file holds they fill at random, anew in every worker."""

import contextlib
import functools
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from synth.errors import InputError

NAMED = 3  # tensors in a message
# ends of the names of buffers that older versions stored and newer ones compute
_BUFFER = re.compile(
    r"(position_ids|inv_freq|num_batches_tracked|masked_bias|attn\.bias|attn\.attention\.bias|causal_mask|relative_position_index)$"
)


@contextlib.contextmanager
def complete() -> Iterator[None]:
    """Inside, loading a model of either library whose files lack a tensor of its class is an InputError that names both.

    What the files hold beside is not used, and told on standard error.
    """
    import transformers

    bases: list[type] = [transformers.PreTrainedModel]
    if "diffusers" in sys.modules:
        import diffusers

        bases.append(diffusers.ModelMixin)
    with contextlib.ExitStack() as stack:
        for base in bases:
            stack.enter_context(_asked(base))
        yield


@contextlib.contextmanager
def _asked(base: type) -> Iterator[None]:
    """Have `base.from_pretrained` report, and judge what it says. Pipelines load their components by it and drop its report."""
    own = base.__dict__["from_pretrained"]

    @functools.wraps(own.__func__)
    def judged(cls: type, path: Any, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        model, report = own.__func__(cls, path, *args, output_loading_info=True, **kwargs)
        judge(f"{path}", cls.__name__, report, {name: any(True for _ in m.parameters(False)) for name, m in model.named_modules()})
        return (model, report) if output_loading_info else model

    base.from_pretrained = classmethod(judged)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        base.from_pretrained = own  # type: ignore[attr-defined]


def judge(what: str, cls: str, report: Mapping[str, Any], modules: Mapping[str, bool]) -> None:
    """InputError if a loading report names tensors that are missing, or some without a place that would have changed the model's own parts.

    what: the folder; cls: the class that was loaded; modules: of its object, by name, and whether each has parameters itself.
    """
    missing, more = _names(report.get("missing_keys")), _names(report.get("unexpected_keys"))
    if missing:
        instead = f"; it holds instead {_some(more)}: was it saved by another class, or with another prefix?" if more else ""
        why = f"holds no {_some(missing)} of {cls}, which would be filled at random{instead}"
        raise InputError(f"{what}: {why}; fetch the model again")
    if changing := [name for name in more if _inside(name, modules)]:
        why = f"holds {_some(changing)}, for which {cls} has no place, inside of what it computes with"
        fix = "merge adapters into the weights, or use a model whose config says all that its weights have"
        raise InputError(f"{what}: {why}: pictures or texts would be another model's; {fix}")
    if more:
        print(f"warning: {what}: {cls} has no place for {_some(more)}: not used", file=sys.stderr)


def _inside(name: str, modules: Mapping[str, bool]) -> bool:
    """Whether a tensor belongs to a part that the model has (a layer, a list of layers), as an adapter's matrices, scales of weights and
    further layers do. Whole parts that another class has beside (a decoder, a tower of pictures) do not, nor do old buffers.

    >>> modules = {"": False, "model": False, "model.layers": False, "model.layers.0": False, "model.layers.0.q": True}
    >>> [_inside(n, modules) for n in ("model.layers.0.q.lora_A.weight", "model.layers.1.q.weight", "model.tower.weight", "lm_head.weight")]
    [True, True, False, False]
    """
    if _BUFFER.search(name):
        return False
    part = name
    while part and part not in modules:
        part = part.rpartition(".")[0]
    return "." in part or (part != "" and modules[part])


def check_filled(what: str, modules: Mapping[str, object]) -> None:
    """InputError if a module was left without values: libraries that load straight into a model leave what is missing empty."""
    import torch

    for name, module in modules.items():
        if isinstance(module, torch.nn.Module) and (empty := sorted(n for n, p in module.named_parameters() if p.is_meta)):
            raise InputError(f"{what}: holds no {_some(empty)} of its {name} ({type(module).__name__}); fetch the model again")


def _names(keys: Collection[Any] | None) -> list[str]:
    return sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys or ())


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if names[NAMED:] else ""
    return ", ".join(names[:NAMED]) + more
