# make run    the embedded default, end to end           make test   everything that is tested
# make grid   a threshold grid, as long as it takes      make lab    JupyterLab
# make bench  speed, as ratios measured in one run       make status  how far the runs in OUT are
# make torture  kill runs over and over (half an hour)   Each does all of its set-up.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTABLE := $(VENV)/.testable
export TF_CPP_MIN_LOG_LEVEL ?= 2
export JUPYTER_PREFER_ENV_PATH := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

.PHONY: run grid status lab test torture bench clean

run: $(READY)
	@mkdir -p runs
	$(BIN)/papermill main.ipynb runs/main.ipynb --no-log-output -p out runs
	$(BIN)/papermill analysis.ipynb runs/analysis.ipynb -y 'files: [runs]' -y 'agreement: [runs/agreement]' \
	    -y 'pruning: []' -p figures runs/figures
	@$(BIN)/python -m report runs
	@printf '\nResults:   %s\nNotebooks: runs/main.ipynb runs/analysis.ipynb\nFigures:   runs/figures/ (%s files)\n' \
	    "$$(echo runs/*.csv)" "$$(ls runs/figures | wc -l)"

# make grid TASK=cifar10 MODEL=cnn SEEDS=0,1,2 EPOCHS=25 EVERY=5 BATCH_SIZE=64 MORE='{thresholds: 26, fill: zero}'
# Safe to start again: only what is missing is computed. One name, one log: runs/<NAME>.log.
TASK ?= digits
SEEDS ?= 0
OUT ?= data
NAME ?= grid-$(TASK)$(if $(MODEL),-$(MODEL))
MORE ?= {}
grid: $(READY)
	@mkdir -p runs
	@echo "Running; watch with: tail -f runs/$(NAME).log"
	@$(BIN)/papermill main.ipynb runs/$(NAME).ipynb --log-output --no-progress-bar -p out $(OUT) \
	    -y '{task: $(TASK), seeds: [$(SEEDS)]}' $(if $(MODEL),-p model $(MODEL)) \
	    $(if $(MEASURES),-y 'measures: [$(MEASURES)]') $(if $(LEVELS),-y 'levels: [$(LEVELS)]') \
	    $(if $(EPOCHS),-y 'epochs: $(EPOCHS)') $(if $(EVERY),-y 'every: $(EVERY)') \
	    $(if $(BATCH_SIZE),-y 'batch_size: $(BATCH_SIZE)') $(if $(WORKERS),-y 'workers: $(WORKERS)') \
	    $(if $(RAY),-y 'workers: "ray:$(RAY)"') $(if $(GPUS),-y 'gpus: $(GPUS)') -y '$(MORE)' >>runs/$(NAME).log 2>&1 \
	    || { tail -n 30 runs/$(NAME).log; exit 1; }
	@grep -a '\.csv$$' runs/$(NAME).log | tail -n 1

status: $(READY)
	@$(BIN)/python -m experiments $(OUT)

# What depends on the backend is tested on both. JAX keeps what it compiled: many tests begin with the same small nets.
ON_JAX := $(wildcard tests/engine tests/importance tests/consolidation tests/experiments/test_grid_*.py \
    tests/experiments/test_torture.py tests/test_*.py tests/sequential/test_replicas.py \
    tests/notebooks/test_main_notebook.py tests/notebooks/test_sequential_notebook.py \
    tests/fine_tuning/test_fine_tuning_importances.py)

lab: $(READY)
	$(BIN)/jupyter lab

test: $(TESTABLE)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 --dist loadfile
	KERAS_BACKEND=jax JAX_COMPILATION_CACHE_DIR=$(abspath $(VENV))/jax JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.3 \
	    $(BIN)/python -m pytest -n 2 --dist loadfile $(ON_JAX)

torture: $(TESTABLE)
	PYTHONPATH=. $(BIN)/python tests/experiments/torture.py

bench: $(TESTABLE)
	for name in grid tracking importance pruning; do \
	    printf '\n== %s\n' $$name; $(BIN)/python -m benchmarks.$$name || exit 1; done
	@printf '\n== replicas, in small: see benchmarks/replicas.py for the whole\n'
	KERAS_BACKEND=jax $(BIN)/python -m benchmarks.replicas --sizes 1 4 --tasks 2 --epochs 1

clean:
	rm -rf $(VENV) runs

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { echo \
	    "Expected Python 3.10 to 3.13, which TensorFlow is made for; received $$($(PYTHON) --version). Name another:" \
	    "make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(READY): requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(TESTABLE): requirements-test.txt requirements-jax.txt requirements-hub.txt $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	@touch $@
