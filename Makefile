# Two commands do everything: `make reproduce` and `make test`. Both set up .venv first, if needed.
PYTHON ?= python3
PROFILE ?= offline
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PYTHONUTF8 := 1

.DEFAULT_GOAL := help
.PHONY: help setup environment reproduce test check lint in-step test-notebooks test-package docs export bench clean

help:            ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' Makefile

setup: $(READY)  ## a virtual environment with the versions that were tested together
# It holds what the environment was made of: a file that was only written anew (nbdev-export does that) sets nothing up again
$(READY): pyproject.toml constraints.txt
	@if ! cat $^ | cmp -s - $@; then $(MAKE) --no-print-directory environment; fi
	@cat $^ > $@

environment:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another with: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV): about 2 GB, a few minutes, once."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'

reproduce: $(READY)  ## the whole paper, from topics to report: PROFILE=offline, paper or smoke
	@$(BIN)/arabic-dialog reproduce --profile $(PROFILE)

# Everything that decides whether a change may land, as CI runs it. One thread a process: two cores are shared by many.
test check: export OMP_NUM_THREADS := 1
test check: export TOKENIZERS_PARALLELISM := false
test check: export HF_HUB_OFFLINE := 1
test check: export MPLBACKEND := Agg
test: lint in-step test-notebooks test-package docs  ## lines, in step, notebooks, tests, site

check: $(READY)  ## in two minutes: lines, in step, the house, and what has changed
	@$(BIN)/python tests/check.py

lint: $(READY)   ## is every line as the house writes it?
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .

in-step: $(READY)  ## is the package what the notebooks export, and are they clean?
	@$(BIN)/python tests/in_step.py

test-notebooks: in-step  ## does every notebook run, and give what it stores?
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/notebooks.py

test-package: test-notebooks
	@$(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile

docs: $(READY)   ## the site, in _docs/
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python docs/build.py

export: $(READY) ## format and clean the notebooks, and export the package from them
	@PATH="$(CURDIR)/$(BIN):$$PATH"; $(BIN)/ruff format --quiet . && $(BIN)/nbdev-clean && $(BIN)/nbdev-export && $(BIN)/python docs/readme.py

bench: $(READY)  ## speed, as ratios
	@for f in benchmarks/bench_*.py; do echo "== $$f"; $(BIN)/python $$f || exit 1; done

clean:           ## what was generated, but for the runs and the environment
	@rm -rf _docs _proc _proc_sphinx .pytest_cache .hypothesis dist
