"""What a training may not do where bytes are promised."""

import contextlib
import warnings

import pytest

from synth import numerics
from synth.errors import InputError
from synth.lora.training import backward_passes


@pytest.mark.parametrize("name", numerics.PRESETS)
def test_what_a_training_cannot_repeat_is_an_error_where_bytes_are_promised_and_no_more_a_warning(name):
    import torch

    numerics.apply(numerics.PRESETS[name])
    at, values = torch.tensor([0, 0]), torch.tensor([1.0, 2.0])  # who is last?
    promised = pytest.raises(InputError, match=r"numerics=fast .* \(put_ ") if name != "fast" else contextlib.nullcontext()
    with promised, backward_passes():
        torch.zeros(3).put_(at, values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # behind it torch warns again
        torch.zeros(3).put_(at, values)
    with pytest.raises(RuntimeError, match="another"), backward_passes():
        raise RuntimeError("another")
    numerics.apply(numerics.EXACT)
