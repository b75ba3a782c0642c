# Both commands set up everything they need in .venv: Python 3.11 or newer is the only requirement.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test types cases fuzz chaos bench clean

demo: $(INSTALLED)
	$(BIN)/multiembed demo

# Small models are faster on one thread than on two of a busy machine.
test: export OMP_NUM_THREADS = 1
# Processes that tests start are ready sooner where Python may keep what it compiled.
test: export PYTHONDONTWRITEBYTECODE =
test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --jobs 2 types cases

# Both at once, because types take one core a minute.
types: $(INSTALLED)
	$(BIN)/pyright

cases: $(INSTALLED)
	$(BIN)/pytest

# Many more random cases than `make test` tries, and more kills at random moments.
fuzz: export OMP_NUM_THREADS = 1
fuzz: export MULTIEMBED_FUZZ = 10000
fuzz: export MULTIEMBED_KILLS = 20
fuzz: $(INSTALLED)
	$(BIN)/pytest tests/test_fuzz_*.py tests/test_data_restart.py

# An hour on two cores: kills at 60 moments of every command that writes, two at once, full disks
# (which are mounted where this is root), and 10000 mutated inputs of every kind.
chaos: export OMP_NUM_THREADS = 1
chaos: $(INSTALLED)
	$(BIN)/python tests/chaos/kills.py
	$(BIN)/python tests/chaos/two_at_once.py
	$(BIN)/python tests/chaos/full_disks.py
	$(MAKE) fuzz

# A quarter of an hour on two cores; every script says what it promises, and takes options.
bench: $(INSTALLED)
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

# torch goes first: the version named in constraints.txt has a build for machines without a GPU.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,demo]'
	touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis
