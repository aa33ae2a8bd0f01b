# Needs Python 3.11 or newer and a package registry; everything goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# --no-compile: Python compiles what it imports, instead of all of torch before the first result
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt
SOURCES := pyproject.toml constraints.txt
LIMIT ?=
# Python keeps what it compiled, whatever the surroundings say: the tests start many processes
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test check bench clean

demo: $(VENV)/.demo
	$(BIN)/hinlap compare examples/news-riddles $(if $(LIMIT),--limit $(LIMIT))

test: $(VENV)/.test
	$(BIN)/hinlap models pull smollm2-135m-instruct
	HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror src/hinlap/engines/kernels/*
	$(BIN)/mypy
	$(BIN)/lint-imports

# make bench, or one: make bench ONLY=help
bench: $(VENV)/.demo
	$(BIN)/python bench/run.py $(if $(ONLY),--only $(ONLY))

clean:
	rm -rf $(VENV) bench/.work examples/*/.hinlap examples/*/report.html

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Hinlap needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

# torch first and alone: a later resolve must not replace the pinned build
$(VENV)/.demo: $(SOURCES) | $(VENV)/bin/python
	$(PIP) torch
	$(PIP) -e '.[local,service]'
	touch $@

$(VENV)/.test: $(SOURCES) | $(VENV)/bin/python
	$(PIP) torch
	$(PIP) -e '.[local,service,toxicity,data,ifeval,web,dev]'
	# DeepSpeed is a source package that looks for torch while it is built; without it its tests skip
	-$(PIP) setuptools wheel && DS_BUILD_OPS=0 $(PIP) --no-build-isolation 'deepspeed>=0.16,<1'
	touch $@ $(VENV)/.demo
