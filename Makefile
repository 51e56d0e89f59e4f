# Every target sets up what it needs. `make demo` and `make test` are all a new user has to know.

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$p; break; }; done)

.PHONY: help demo app test lint bench setup clean
help:
	@echo "make demo   set up, open the dashboard, and run the demo in the background"
	@echo "make app    set up and open the dashboard        (PORT=8501 WORKSPACE=workspace)"
	@echo "make test   set up and run all tests"
	@echo "make lint   check style"
	@echo "make bench  print the benchmark figures (minutes)"
	@echo "make clean  remove the virtual environment"

PORT ?= 8501
WORKSPACE ?= $(or $(RSFM_WORKSPACE),workspace)

demo: setup
	$(BIN)/rsfm demo --port $(PORT) --workspace $(WORKSPACE)

app: setup
	$(BIN)/rsfm app --port $(PORT) --workspace $(WORKSPACE)

# Files in their order, so that the browser's, which take longest, do not come last and leave cores idle.
test: setup $(VENV)/.browser
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder --durations 20 $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: setup
	@for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found on PATH." >&2; exit 1; }
	@echo "Setting up $(VENV): about three minutes and 8 GB."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25"
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

$(VENV)/.browser: $(VENV)/.ready tests/e2e/browser.py
	$(BIN)/python tests/e2e/browser.py
	@touch $@

clean:
	rm -rf $(VENV)
