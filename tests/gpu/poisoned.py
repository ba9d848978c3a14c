"""A worker whose device breaks in the middle of a stage: python -m tests.gpu.poisoned STAGE_DIR

On a GPU by a kernel that reads out of bounds: from then on every call of CUDA in this process fails. On a CPU by the words of it.
"""

import sys
import time

CALL = 8  # of the U-Net: in the second unit of tests/gpu/rows.py, so that the first one is committed
WORDS = "CUDA error: device-side assert triggered"


def main() -> int:
    import torch
    from diffusers import UNet2DConditionModel

    from synth import worker

    plain, calls = UNet2DConditionModel.forward, [0]

    def breaks(self, *args, **kwargs):
        calls[0] += 1
        if calls[0] >= CALL:
            if not torch.cuda.is_available():
                raise RuntimeError(WORDS)
            time.sleep(1)  # the writer commits the first unit meanwhile
            torch.zeros(1, device="cuda")[torch.tensor([10**6], device="cuda")].sum().item()
        return plain(self, *args, **kwargs)

    UNet2DConditionModel.forward = breaks
    return worker.main([sys.argv[1], "--job-idx", "0", "--n-jobs", "1"])


if __name__ == "__main__":
    sys.exit(main())
