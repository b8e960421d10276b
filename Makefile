# make demo       restore a folder of damaged photographs into out/
# make test       everything CI runs: lint, types, the quick tests
# make test-all   the same, with the slow tests
# make lint       ruff and pyright alone
# make docs       the documentation, into site/; a link that leads nowhere fails
# make man        the manual page, restorepix.1
# make format     let ruff rewrite the sources
# make reproduce  every model again from DATA=folder, into RUNS=runs (hours; training/reproduce.sh)

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DELETE_ON_ERROR:
.PHONY: demo test test-all lint docs man format reproduce clean

demo: $(READY)
	$(BIN)/python examples/demo.py --out out

test: lint
	$(BIN)/python -m pytest

test-all: lint
	$(BIN)/python -m pytest --runslow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

man: $(READY)
	$(BIN)/python docs/generate.py man > restorepix.1

reproduce: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" training/reproduce.sh "$(DATA)" "$(or $(RUNS),runs)"

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Made once, and again when the dependencies change.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,test,dev]'
	touch $@

clean:
	rm -rf $(VENV) out site restorepix.1 dist build .pytest_cache .ruff_cache .hypothesis
