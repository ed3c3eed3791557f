# `make` alone says what there is to make. Each does all of its set-up.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXECUTE = $(BIN)/python -m experiments.execute
READY := $(VENV)/.ready
TESTABLE := $(VENV)/.testable
export JUPYTER_PREFER_ENV_PATH := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

# What may stand after the name of what is to be made. Whatever else stands there would change nothing, and stops it.
BACKENDS := tensorflow jax
OF_GRID := TASK MODEL NETWORK X FOLDS SEEDS UNTIL LIMIT OUT MEASURES LEVELS EPOCHS EVERY BATCH_SIZE WORKERS RAY GPUS MORE NAME
TAKEN_BY_grid := $(OF_GRID)
TAKEN_BY_status := OUT
TAKEN_BY_networks := OUT
TAKEN_BY_test := BACKENDS
TAKEN := PYTHON VENV $(foreach goal,$(MAKECMDGOALS),$(TAKEN_BY_$(goal)))
WRONG := $(firstword $(filter-out $(TAKEN),$(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))))
ifneq ($(WRONG),)
NEAREST := $(shell $(PYTHON) -c 'import difflib, sys; wrong, *known = sys.argv[1:]; \
    print(*difflib.get_close_matches(wrong.upper(), known, 1))' '$(WRONG)' $(TAKEN) $(OF_GRID))
$(error make $(MAKECMDGOALS) takes $(strip $(TAKEN)); received $(WRONG).$(if $(NEAREST), Did you mean $(NEAREST)$(if \
    $(filter $(NEAREST),$(TAKEN)),, of make grid)?) Other parameters of main.ipynb stand in MORE of make grid)
endif

.DEFAULT_GOAL := help
.PHONY: help run grid status networks lab notebook-html check test slow zoo quick floors torture bench clean

help: ## what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1 \t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 21
	@printf '\nmake grid takes %s\n' "$(OF_GRID)"

run: $(READY) ## a grid on the digits of scikit-learn, end to end: rows, notebooks, figures, ordering
	$(EXECUTE) main.ipynb runs/main.ipynb -p out runs
	$(EXECUTE) analysis.ipynb runs/analysis.ipynb -y '{files: [runs], agreement: [runs/agreement], pruning: []}' \
	    -p figures runs/figures
	@$(BIN)/python -m report runs && echo && $(BIN)/python -m report runs --html runs/report.html
	@printf 'Results:   %s\nNotebooks: runs/main.ipynb runs/analysis.ipynb\nFigures:   runs/figures/ (%s files)\n' \
	    "$$(echo runs/*.csv)" "$$(ls runs/figures | wc -l)"

# make grid TASK=cifar10 MODEL=cnn SEEDS=0,1,2 EPOCHS=25 EVERY=5 BATCH_SIZE=64 MORE='{thresholds: 26, fill: zero}'
# make grid TASK=mnist SEEDS=0,1,2,3,4,5,6,7 UNTIL=settled LIMIT=40    more networks until every pair is settled
# make grid NETWORK=my_model.keras X=examples.npz MEASURES=magnitude,obd,wanda    a network that is trained already
# Safe to start again: only what is missing is computed. One name, one log: runs/<NAME>.log. A name in MORE that is no
# parameter of the notebook stops it. The shell reads values from the environment, where it takes them as they are.
TASK ?= digits
SEEDS ?= 0
OUT ?= runs
NAME ?= grid-$(if $(NETWORK),$(notdir $(basename $(NETWORK))),$(TASK)$(if $(MODEL),-$(MODEL)))
MORE ?= {}
export $(OF_GRID)
GIVEN = -p out "$$OUT" -y "{task: $$TASK, seeds: [$$SEEDS]}" $(if $(MODEL),-p model "$$MODEL") \
    $(if $(NETWORK),-p network "$$NETWORK") $(if $(X),-p x "$$X") $(if $(FOLDS),-y "folds: $$FOLDS") \
    $(if $(MEASURES),-y "measures: [$$MEASURES]") $(if $(LEVELS),-y "levels: [$$LEVELS]") \
    $(if $(EPOCHS),-y "epochs: $$EPOCHS") $(if $(EVERY),-y "every: $$EVERY") \
    $(if $(UNTIL),-p until "$$UNTIL") $(if $(LIMIT),-y "limit: $$LIMIT") \
    $(if $(BATCH_SIZE),-y "batch_size: $$BATCH_SIZE") $(if $(WORKERS),-y "workers: $$WORKERS") \
    $(if $(RAY),-p workers "ray:$$RAY") $(if $(GPUS),-y "gpus: $$GPUS") -y "$$MORE"
grid: $(READY) ## a threshold grid, as long as it takes: make grid TASK=mnist MODEL=cnn SEEDS=0,1,2
	@$(EXECUTE) main.ipynb "runs/$$NAME.ipynb" --log "runs/$$NAME.log" $(GIVEN)
	@grep -a '\.csv$$' "runs/$$NAME.log" | tail -n 1

status: $(READY) ## how far the runs in OUT are
	@$(BIN)/python -m experiments "$$OUT"

networks: $(READY) ## what is kept in OUT/networks, its sizes, and which studies use it
	@$(BIN)/python -m experiments networks "$$OUT"

# What depends on the backend is tested on both; storage, settings, processes, notebooks and reports on TensorFlow alone,
# and so is what reads the layers and the graph of a Keras model.
OF_GRAPHS := $(addprefix tests/engine/test_engine_,channels.py costs.py shrinking.py units.py)
ON_JAX := $(filter-out $(OF_GRAPHS),$(wildcard tests/engine/test_*.py)) $(wildcard tests/importance tests/consolidation \
    tests/wrappers tests/test_api.py tests/experiments/test_grid_values.py tests/experiments/test_grid_given.py \
    tests/sequential/test_replicas.py tests/fine_tuning/test_fine_tuning_importances.py) \
    tests/test_readme.py::test_the_blocks_of_the_readme_do_what_they_say tests/zoo
# Many tests begin with the same small nets: what JAX compiled stays in the user's cache folder, apart from that of runs.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/weightwise/tests
# Functions that run once take longer to optimize, or to share among threads, than to run.
XLA := --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false \
    --xla_cpu_parallel_codegen_split_count=1
# Files go to processes in their order, and the zoo, which goes by single tests, comes last: both have done at once.
# What they compile of Python stays for those that follow, also where Python is told to leave nothing.
PYTEST := PYTHONDONTWRITEBYTECODE= XLA_FLAGS="$$XLA_FLAGS $(XLA)" \
    $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder --durations=25
JAX_PYTEST := KERAS_BACKEND=jax JAX_COMPILATION_CACHE_DIR=$(CACHE) JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
    JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1 $(PYTEST)

notebook-html: $(READY) ## the executed notebooks in runs, as HTML beside them
	@ls runs/*.ipynb >/dev/null 2>&1 || { echo "Expected executed notebooks in runs, found none: make run" >&2; exit 1; }
	$(BIN)/jupyter nbconvert --log-level ERROR --to html --TagRemovePreprocessor.enabled=True \
	    --TagRemovePreprocessor.remove_cell_tags=find-the-project runs/*.ipynb
	@ls runs/*.html

lab: $(READY) ## JupyterLab
	$(BIN)/jupyter lab

test: $(TESTABLE) ## everything that is tested, on TensorFlow and on JAX
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(if $(filter tensorflow,$(BACKENDS)),$(PYTEST) -m "not slow")
	$(if $(filter jax,$(BACKENDS)),mkdir -p $(CACHE) && find $(CACHE) -type f -mtime +30 -delete)
	$(if $(filter jax,$(BACKENDS)),$(JAX_PYTEST) -m "not long and not zoo and not slow" $(ON_JAX))

slow: $(TESTABLE) ## the tests that make test leaves out
	$(PYTEST) -m slow

zoo: $(TESTABLE) ## every measure on every network of the zoo, on both backends: ten minutes or so
	$(PYTEST) tests/zoo
	$(JAX_PYTEST) tests/zoo

# Quick tests of what each requirement is for: tables, statistics, figures, notebooks, settings, and one small grid.
FLOORS := .venv-floors
QUICK := tests/test_house.py tests/report/test_report_reading.py tests/report/test_report_figures.py \
    tests/report/test_report_drawing.py tests/report/test_report_sequential.py tests/thresholding tests/aggregation \
    tests/experiments/test_settings.py tests/experiments/test_run_names.py tests/experiments/test_grid_settings.py \
    tests/experiments/test_grid_run.py tests/experiments/test_store.py tests/experiments/test_locks.py \
    tests/experiments/test_parameters.py tests/sequential/test_sequential_settings.py \
    tests/fine_tuning/test_fine_tuning_settings.py tests/consolidation/test_consolidation_errors.py \
    tests/notebooks/test_fine_tuning_notebook.py
# What can break without a long computation: who imports whom, types, settings, names, files, tables, commands.
CHECK := tests/test_house.py tests/aggregation tests/thresholding tests/engine/test_engine_quiet.py \
    tests/experiments/test_settings.py tests/experiments/test_run_names.py tests/experiments/test_grid_settings.py \
    tests/experiments/test_store.py tests/experiments/test_locks.py tests/experiments/test_parameters.py \
    tests/experiments/test_progress.py tests/experiments/test_execute.py tests/experiments/test_status.py \
    tests/report/test_report_reading.py tests/report/test_report_drawing.py tests/report/test_report_command.py \
    tests/sequential/test_sequential_settings.py tests/fine_tuning/test_fine_tuning_settings.py \
    tests/tasks/test_task_arrays.py tests/consolidation/test_consolidation_logging.py
check: $(TESTABLE) ## linters, types, and the tests that take no computing: three minutes at most
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile $(CHECK)

quick: $(TESTABLE) ## a few minutes' worth of the tests
	$(BIN)/python -m pytest $(QUICK)

floors: ## the quick tests with the lowest versions that are allowed
	@$(MAKE) --no-print-directory VENV=$(FLOORS) $(FLOORS)/bin/python
	sed -n 's/>=/==/p' requirements.txt requirements-test.txt >$(FLOORS)/floors.txt
	$(FLOORS)/bin/python -m pip install --quiet --disable-pip-version-check -r $(FLOORS)/floors.txt
	$(FLOORS)/bin/python -m pytest $(QUICK)

torture: $(TESTABLE) ## kill runs, fail disks: an hour or two
	PYTHONPATH=. $(BIN)/python tests/experiments/torture.py

bench: $(TESTABLE) ## speed, as ratios measured in one run
	for name in grid tracking importance pruning; do \
	    printf '\n== %s\n' $$name; $(BIN)/python -m benchmarks.$$name || exit 1; done
	@printf '\n== replicas, in small: see benchmarks/replicas.py for the whole\n'
	KERAS_BACKEND=jax $(BIN)/python -m benchmarks.replicas --sizes 1 4 --tasks 2 --epochs 1

clean: ## remove the environments and runs
	rm -rf $(VENV) $(FLOORS) runs

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo \
	    "Expected Python 3.11 to 3.13, which Keras and TensorFlow are made for; received $$($(PYTHON) --version)." \
	    "Name another: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Modules are compiled on all cores, which pip does on one, but for the packages' tests; some files are no modules.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
COMPILED := { $(BIN)/python -m compileall -qq -j 0 -x /tests/ $(VENV)/lib || true; }

$(READY): requirements.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) -e . && $(COMPILED)
	@touch $@

$(TESTABLE): requirements-test.txt requirements-jax.txt requirements-hub.txt requirements.txt pyproject.toml \
    | $(VENV)/bin/python
	$(PIP) -e . -r requirements-test.txt && $(COMPILED)
	@touch $(READY) $@
