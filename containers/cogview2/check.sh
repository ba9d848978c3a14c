#!/bin/sh
# Proves that the CogView2 of an image can be started: imports, the kernels of local attention, the adapter. Needs no GPU and no weights.
set -eu
env=$(cd "$(dirname "$0")/.." && pwd)
kernels=$(mktemp -d) # deepspeed makes ~/.triton otherwise, and who runs an image may have no home
trap 'rm -rf "$kernels"' EXIT
export PATH="$env/bin:$PATH" CUDA_VISIBLE_DEVICES="" TRITON_CACHE_DIR="$kernels"
python3 -c '
import torch, torchvision, SwissArmyTransformer.generation.autoregressive_sampling, icetk, numpy
import localAttention
print("torch", torch.__version__, "for CUDA", torch.version.cuda, "numpy", numpy.__version__)
print("local attention:", localAttention.similar_forward.__name__)
' 2>&1
cogview2-draw --help >/dev/null
cogview2-draw /nowhere </dev/null >/dev/null 2>&1 && exit 70
[ -s "$env/../CogView2/cluster_label.npy" ]
echo "cogview2 can be started"
