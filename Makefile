# `make demo` and `make test` work on a fresh machine with Python >= 3.11: each makes its own virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CORES ?= 2

.PHONY: demo test lint types imports unit notebooks clean

# The library alone, for the demo.
$(VENV)/.installed: setup.cfg constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

# The library with everything that its tests need.
$(VENV)/.developed: setup.cfg constraints.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(VENV)/.installed $@

demo: $(VENV)/.installed
	$(BIN)/python -m models.morphomnist.demo demo

test: $(VENV)/.developed lint types imports unit notebooks

lint: $(VENV)/.developed
	$(BIN)/ruff check .

types: $(VENV)/.developed
	$(BIN)/mypy

imports: $(VENV)/.developed
	$(BIN)/lint-imports

# One torch thread a worker, or the workers fight over the cores.
unit: $(VENV)/.developed
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m pytest -n $(CORES) --dist loadfile

notebooks: $(VENV)/.developed
	OMP_NUM_THREADS=1 MPLBACKEND=Agg $(BIN)/python -m pytest --nbmake notebooks --override-ini=testpaths=notebooks

clean:
	rm -rf $(VENV) demo build dist *.egg-info
