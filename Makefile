# `make demo` and `make test` set up everything they need in .venv, from the lock file.

VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(shell for name in python3.12 python3.13 python3.14 python3; do \
	command -v $$name >/dev/null 2>&1 && \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1 && echo $$name && break; done)
OBJECTS := 4200
SEED := 1

# Processes that commands start need not compile the modules again, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo fidelity better learn chaos chaos-small test check check-fast bench bench-full bench-peers setup developer dist \
	wheels lock clean

setup: $(VENV)/ready

$(VENV)/ready: requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.12 or newer is needed and none was found. Install it (with its venv module), then run make again."; \
		exit 1; fi
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# What developers need beside it: tests, lint, types, documentation.
developer: $(VENV)/ready-developer

$(VENV)/ready-developer: $(VENV)/ready requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

# Exit status 3 says that objects are in quarantine, which the demonstration has on purpose.
demo: setup
	$(BIN)/swimmy-scale simulate demo/survey --n-objects $(OBJECTS) --seed $(SEED)
	$(BIN)/swimmy-scale run jobs/demo.yaml --output demo/run || [ $$? -eq 3 ]
	$(BIN)/swimmy-scale report demo/run

# The paper's numbers beside ours, on 50,000 simulated objects, and why they differ. On two cores: 4 minutes for the
# survey, under an hour for the run, most of which trains, 1 for tables and figures, and minutes for the reasons; 10 GB of disk.
# A smaller one, which leaves the page and its numbers:
# make fidelity OBJECTS=5000 PAGE=fidelity/page.md FACTS=fidelity
PAGE := docs/fidelity.md
FACTS := studies/results
fidelity: OBJECTS := 50000
fidelity: setup
	$(BIN)/swimmy-scale simulate fidelity/survey --n-objects $(OBJECTS) --seed $(SEED) --like paper
	$(BIN)/swimmy-scale run jobs/fidelity.yaml --output fidelity/run || [ $$? -eq 3 ]
	$(BIN)/swimmy-scale tables fidelity/run
	$(BIN)/swimmy-scale figures fidelity/run
	$(BIN)/swimmy-scale fidelity fidelity/run --json $(FACTS)/fidelity_run.json
	$(BIN)/python studies/reasons.py fidelity/run fidelity/survey/truth.fits --weight-sets --quasars 600 \
		--json $(FACTS)/fidelity_reasons.json
	$(BIN)/python studies/fidelity_page.py --results $(FACTS) --output $(PAGE)

# Other ways than the paper's to train, score and choose, on simulated surveys: under an hour on two cores that other
# work shared, 2 GB of disk. It goes on where it was interrupted.
better: setup
	$(BIN)/python studies/better.py better --json studies/results/better.json
	$(BIN)/python studies/better.py --page

# Looks until what is interesting is found, by score and by learning from marks, on ten simulated surveys that the weights
# of the demonstration score: some ten minutes on a core, 5 GB of disk.
learn: demo
	$(BIN)/python studies/learn.py learn --weights demo/run --page

check: developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPY_NUM_WORKERS=2 $(BIN)/mypy

# For every save, in one to three minutes: all but the tests that are marked as slow.
check-fast: check
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Less than ten minutes on an idle machine of two cores. Ratios count: rates depend on the machine.
RESULTS := benchmarks/results
bench: developer
	$(BIN)/python benchmarks/score_stage.py --n-objects 12288 --repeat 2 --json $(RESULTS)/score_stage.json
	$(BIN)/python benchmarks/floors.py --n-objects 2048 --repeat 2 --json $(RESULTS)/floors.json
	$(BIN)/python benchmarks/ensemble.py --repeat 5 --json $(RESULTS)/ensemble.json
	$(BIN)/python benchmarks/training.py --n-objects 480 --repeat 1 --json $(RESULTS)/training.json
	$(BIN)/python benchmarks/ingest.py --repeat 2 --json $(RESULTS)/ingest.json
	$(BIN)/python benchmarks/ingest_forms.py --repeat 1 --json $(RESULTS)/ingest_forms.json
	$(BIN)/python benchmarks/tasks.py --n-tasks 10000 --json $(RESULTS)/tasks.json
	$(BIN)/python benchmarks/quantiles.py --repeat 2 --json $(RESULTS)/quantiles.json
	$(BIN)/python benchmarks/startup.py --without-keras --repeat 3 --json $(RESULTS)/startup.json
	$(BIN)/python benchmarks/page.py
	$(BIN)/python benchmarks/page.py --targets

# Hours, 70 GB of disk: everything at full size, then the page. FULL is where the survey lies meanwhile; it is kept.
FULL := full
bench-full: setup
	$(BIN)/python benchmarks/score_stage.py --n-objects 32768 --repeat 5 --json $(RESULTS)/score_stage.json
	$(BIN)/python benchmarks/floors.py --n-objects 8192 --repeat 5 --json $(RESULTS)/floors.json
	$(BIN)/python benchmarks/ensemble.py --repeat 5 --json $(RESULTS)/ensemble.json
	$(BIN)/python benchmarks/training.py --repeat 5 --json $(RESULTS)/training.json
	$(BIN)/python benchmarks/ingest.py --repeat 5 --json $(RESULTS)/ingest.json
	$(BIN)/python benchmarks/ingest_forms.py --n-objects 2048 --repeat 5 --json $(RESULTS)/ingest_forms.json
	$(BIN)/python benchmarks/memory.py --json $(RESULTS)/memory.json
	$(BIN)/python benchmarks/storage.py --json $(RESULTS)/storage.json
	$(BIN)/python benchmarks/reading.py --json $(RESULTS)/reading.json
	$(BIN)/python benchmarks/tasks.py --n-tasks 10000000 --json $(RESULTS)/tasks_many.json
	$(MAKE) demo
	$(BIN)/python benchmarks/report.py demo/run --json $(RESULTS)/report.json
	$(BIN)/python benchmarks/quantiles.py --n-scores 1000000000 --n-in-memory 200000000 --json $(RESULTS)/quantiles_many.json
	$(BIN)/python benchmarks/startup.py --repeat 5 --json $(RESULTS)/startup.json
	$(BIN)/python benchmarks/scaling.py --repeat 3 --json $(RESULTS)/scaling.json
	$(BIN)/python benchmarks/full.py $(FULL) --json $(RESULTS)/full.json
	$(MAKE) bench-peers
	$(BIN)/python benchmarks/page.py --targets

# Beside Hyrax, which pip installs in PEERS (4 GB) with the interpreter HYRAX_PYTHON: an hour, 12 GB of disk in all.
PEERS := peers
HYRAX_PYTHON := python3.11
bench-peers: setup
	$(BIN)/python benchmarks/peers.py $(PEERS) --python $(HYRAX_PYTHON) --json $(RESULTS)/peers.json
	$(BIN)/python benchmarks/page.py

# Kills, power cuts, damage, disk errors, races and hostile inputs, about an hour on two cores; it goes on where it was
# interrupted. Results are of one program: they begin anew when it changes. Power cuts of a real file system need root.
# The whole counts take days: make chaos CHAOS=--full
CHAOS :=
chaos: developer
	$(BIN)/python -m chaos $(CHAOS) || [ $$? -eq 1 ]
	$(BIN)/python -m chaos.page

# What `make test` does of it, in less than a minute.
chaos-small: developer
	$(BIN)/python -m pytest tests/test_chaos.py

# The wheel and the sdist, checked, in dist/; REPOSITORY=https://... is where the README's links lead on an index's page.
REPOSITORY :=
dist: developer
	$(BIN)/python docs/release.py $(if $(REPOSITORY),--repository $(REPOSITORY))

# All that an installation needs, as files, for machines without internet.
wheels: dist
	$(BIN)/python -m pip download --quiet --no-deps --require-hashes -r requirements.lock --dest wheels
	cp dist/*.whl wheels/

# Needs uv. Writes no registry host into the lock files.
lock:
	uv pip compile --universal --python-version 3.12 --generate-hashes --no-emit-index-url --no-header \
		--extra all pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.12 --generate-hashes --no-emit-index-url --no-header \
		--extra all --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean:
	rm -rf $(VENV) demo build dist wheels *.egg-info
