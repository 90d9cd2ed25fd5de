# Every target sets up what it needs, in .venv and from requirements/*.lock, the first time.

PYTHON ?= python3
PORT ?= 8000
DOCS ?=
ARGS ?=

BIN := .venv/bin
SETUP := "$(PYTHON)" requirements/install.py
COMPILE := $(BIN)/uv pip compile pyproject.toml --extra folio --extra reload --universal \
	--python-version 3.11 --generate-hashes --no-header --no-emit-index-url --upgrade --quiet

# What a caller's own environment would bend.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench soak lock clean setup setup-demo

help: ## Show this list
	@echo "make TARGET [PYTHON=python3.12]"
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1\t\2/p' Makefile | expand -t 12

demo: setup-demo ## Serve a folder of documents: make demo DOCS=~/notes PORT=9000
	@exec $(BIN)/python examples/folio/main.py --port "$(PORT)" $(if $(DOCS),--docs "$$DOCS")

test: setup ## Run all tests: make test ARGS="-k registry"
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check: setup ## Check style, types and import layers
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pyright --pythonpath $(BIN)/python --project tests/typing
	$(BIN)/lint-imports --no-cache

format: setup ## Put the code into its style, mending what can be mended
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

bench: setup ## Measure every published claim beside its peers: make bench ARGS=--quick
	@$(BIN)/python benchmarks/run.py $(ARGS)

soak: setup ## Run a host under load and random faults: make soak ARGS="--seconds 60 --seed 7"
	@$(BIN)/python tests/soak $(ARGS)

lock: setup ## Resolve the dependencies anew into requirements/*.lock
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) --group build --output-file requirements/run.lock
	$(COMPILE) --group dev --constraint requirements/run.lock --output-file requirements/dev.lock

clean: ## Remove what the other targets made
	rm -rf .venv .demo build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup:
	@$(SETUP) dev

setup-demo:
	@$(SETUP) run
