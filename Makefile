# make demo | lab | test | bench: each sets up .venv first if it must; the second time that takes no time.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Ray, which only the tests of sweeps on a cluster need.
TESTABLE := .venv/.testable
# The pins are of versions that need Python 3.11.5; on an older one the ranges of pyproject.toml decide.
PINS := $(shell $(PYTHON) -c 'import sys; print("-c constraints.txt" if sys.version_info >= (3, 11, 5) else "")')

.PHONY: demo lab test bench clean

demo: $(READY)
	$(BIN)/rmu-lab demo

lab: $(READY)
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

test: $(TESTABLE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pytest
	OMP_NUM_THREADS=1 $(BIN)/pytest --nbval --nbval-current-env -n 2 --dist loadscope notebooks

bench: $(READY)
	$(BIN)/python -m benchmarks

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "rmu-lab needs Python 3.10 or later; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PINS) -e ".[lab,eval,test]"
	touch $(READY)

$(TESTABLE): $(READY)
	$(BIN)/python -m pip install $(PINS) -e ".[cluster]"
	touch $(TESTABLE)

clean:
	rm -rf .venv
