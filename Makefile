# make run: the embedded example from class names to pictures. make test: the whole test suite. make lint: what of it
# reads the code only. make gpu: proves every CUDA path on this machine's GPU.
# make campaign: real runs that are killed and meet trouble at random, about 20 minutes; SEED=1 for other dice. All make .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint gpu campaign bench clean

run: $(VENV)/.installed
	@$(BIN)/python launch/run.py $(ARGS)

# three processes on two cores: half of the tests wait, for the clocks of Slurm and of leases
test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 3 --dist loadfile $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

gpu: $(VENV)/.installed
	SYNTHSET_GPU_TESTS=cuda $(BIN)/python -m pytest -m gpu tests/gpu -n 4 --dist loadfile $(ARGS)

campaign: $(VENV)/.installed
	$(BIN)/python -m tests.campaign --seed $(or $(SEED),0) $(ARGS)

bench: $(VENV)/.installed
	for b in captions encoders exports exports_files heap images launch main_job store story tracking verify; do echo "== $$b"; $(BIN)/python -m tests.bench.$$b || exit 1; done

$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "synthset needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# what docs/exports.md says opens exports, beside the environment and not in it: tests/export/readers.txt says why
$(VENV)/.readers: $(VENV)/.installed tests/export/readers.txt
	rm -rf $(VENV)/readers
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(VENV)/readers -r tests/export/readers.txt
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
