# `make quickstart` and `make test` work in an empty environment; an active virtual environment is used as it is.
PYTHON ?= python3
VENV := $(if $(VIRTUAL_ENV),$(VIRTUAL_ENV),.venv)
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
MINUTES ?= 8
OUT ?= runs/quickstart

.PHONY: quickstart test check format

quickstart: $(BIN)/python
	$(INSTALL) --editable ".[quickstart]"
	$(BIN)/dupmae quickstart --minutes $(MINUTES) --out $(OUT)

test: $(BIN)/python
	$(INSTALL) --editable ".[test]"
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

check: $(BIN)/python
	$(INSTALL) --editable ".[check]"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(BIN)/python
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
