#!/bin/sh
# Proves that the synthset of an image works: the import, a plan of the main job, a worker on a small stage. Needs no GPU and no network.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
export CUDA_VISIBLE_DEVICES="" # what is installed is checked; a GPU is the matter of the worker that needs it
python3 -P -c 'import torch, synth.worker; print("torch", torch.__version__, "for CUDA", torch.version.cuda)'
synthset run dry_run=true "runs_dir=$place/runs" >plan.txt || { cat plan.txt; exit 70; }
synthset run recipe=probe probe.slots=4 probe.unit_size=2 until=probe cluster.n_jobs=1 "runs_dir=$place/runs" >run.txt || { cat run.txt; exit 70; }
python3 -P -m synth.worker "$(echo "$place"/runs/*/probe-*)" 2>worker.txt || { cat worker.txt; exit 70; }
echo "synthset works"
