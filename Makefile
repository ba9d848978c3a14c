# make run: the embedded example from class names to pictures. make judge: which guidance scale of the same toys trains best. make test: the
# whole test suite. make lint: what of it reads the code only. make gpu: proves every CUDA path on this machine's GPU.
# make cogview2-test: the adapter of CogView2 on its pinned libraries and its own code (COGVIEW2_HOME, a clone), with tiny random weights
# on cores; needs Python 3.10, 6 GB of disk and some minutes. make cogview2-image: builds its image on a stand-in for its base and draws
# there; needs buildah, mmdebstrap, root and 15 GB more.
# make campaign: real runs that are killed and meet trouble at random, about 20 minutes; SEED=1 for other dice. All make .venv first.
PYTHON ?= python3
PYTHON310 ?= python3.10
VENV := .venv
BIN := $(VENV)/bin

JUDGED := runs/judge_sets
TINY_CLIP := synth/embedded/models/tiny_clip

.PHONY: run judge test lint gpu cogview2-home cogview2-test cogview2-image campaign bench clean

run: $(VENV)/.installed
	@$(BIN)/python launch/run.py $(ARGS)

# a sweep over the guidance scale of the toy model, judged by new renders and by drawings of other artists: a table, a line and a page
judge: $(VENV)/.installed
	@$(BIN)/python -m synth.embedded.pictures.folders $(JUDGED)/real --count 400 --seed 11
	@$(BIN)/python -m synth.embedded.pictures.folders $(JUDGED)/test --count 600 --seed 12 --held-out
	@$(BIN)/python launch/run.py -m cluster.n_jobs=1 images.guidance_scale=1,2,4,8 captions.per_class=8 images.steps=12 'export=[]' \
	  features.model=$(TINY_CLIP) judge.real=$(JUDGED)/real judge.test=$(JUDGED)/test $(ARGS)
	@$(BIN)/python launch/report.py runs/pictures --out runs/judge.html --out runs/judge.parquet

# six processes on two cores: half of them begin with tests that wait, for the clocks of Slurm (tests/order.py)
test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 6 --dist loadfile $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

gpu: $(VENV)/.installed
	SYNTHSET_GPU_TESTS=cuda $(BIN)/python -m pytest -m gpu tests/gpu -n 4 --dist loadgroup $(ARGS)

cogview2-home:
	@test -f "$(COGVIEW2_HOME)/cogview2_text2image.py" || { echo "COGVIEW2_HOME must name a clone of THUDM/CogView2"; exit 65; }

cogview2-test: cogview2-home $(VENV)/.installed $(VENV)/cogview2/.installed
	COGVIEW2_PYTHON=$(CURDIR)/$(VENV)/cogview2/bin/python COGVIEW2_HOME=$(abspath $(COGVIEW2_HOME)) \
	  $(BIN)/python -m pytest tests/containers/test_cogview2.py $(ARGS)

cogview2-image: cogview2-home $(VENV)/.installed $(VENV)/cogview2/.installed
	$(BIN)/python -m tests.containers.cogview2_image --python $(CURDIR)/$(VENV)/cogview2/bin/python --home $(abspath $(COGVIEW2_HOME))

campaign: $(VENV)/.installed
	$(BIN)/python -m tests.campaign --seed $(or $(SEED),0) $(ARGS)

bench: $(VENV)/.installed
	for b in captions encoders exports exports_files heap images launch layout main_job store story tracking verify; do echo "== $$b"; $(BIN)/python -m tests.bench.$$b || exit 1; done

$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "synthset needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	@# what pip would compile file by file, but for some thousands that nobody imports
	-$(BIN)/python -m compileall -q -j 4 -x '/(tests?|testing)/|transformers/models/' $(VENV)/lib
	touch $@

# what docs/exports.md says opens exports, beside the environment and not in it: tests/export/readers.txt says why
$(VENV)/.readers: $(VENV)/.installed tests/export/readers.txt
	rm -rf $(VENV)/readers
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(VENV)/readers -r tests/export/readers.txt
	touch $@

# as install.sh does it over a base image: its torch first, then the lock
$(VENV)/cogview2/.installed: containers/cogview2/requirements.lock
	$(PYTHON310) -m venv $(VENV)/cogview2
	$(VENV)/cogview2/bin/python -m pip install --quiet --disable-pip-version-check torch==2.1.2 torchvision==0.16.2
	sed -n '/^\(setuptools\|wheel\)==/,/[0-9a-f]$$/p' $< >$(VENV)/cogview2/build.lock
	$(VENV)/cogview2/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/cogview2/build.lock
	DS_BUILD_OPS=0 $(VENV)/cogview2/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	  --no-build-isolation -r $<
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
