# `make demo` and `make test` set up everything they need in .venv, from the lock file.

VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(shell for name in python3.12 python3.13 python3.14 python3; do \
	command -v $$name >/dev/null 2>&1 && \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1 && echo $$name && break; done)
OBJECTS := 4200
SEED := 1

.PHONY: demo test check bench setup lock clean

setup: $(VENV)/ready

$(VENV)/ready: requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.12 or newer is needed and none was found. Install it (with its venv module), then run make again."; \
		exit 1; fi
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Exit status 3 says that objects are in quarantine, which the demonstration has on purpose.
demo: setup
	$(BIN)/swimmy-scale simulate demo/survey --n-objects $(OBJECTS) --seed $(SEED)
	$(BIN)/swimmy-scale run jobs/demo.yaml --output demo/run || [ $$? -eq 3 ]

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# About three minutes on an idle machine; ratios count, rates depend on the machine.
bench: setup
	$(BIN)/python benchmarks/score_stage.py --n-objects 12288 --repeat 3 --json benchmarks/score_stage.json

# Needs uv. Writes no registry host into the lock file.
lock:
	uv pip compile --universal --python-version 3.12 --generate-hashes --no-emit-index-url --no-header \
		--group dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) demo build *.egg-info
