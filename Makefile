# make demo | lab | test | bench: each sets up .venv first if it must; the second time that takes no time.
# make check, make notebooks: the two halves of make test.
# make site: the course's site, in build/site; every link of it is checked.
# make browser: the course in JupyterLab in a Chromium without a window (apt-get install -y chromium); skipped without one.
# make lowest | newest: the fast tests in a fresh .venv-lowest or .venv-newest, with the lowest versions of what
# pyproject.toml names, or with the newest.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Ray, which only the tests of sweeps on a cluster need.
TESTABLE := .venv/.testable
# The pins are of versions that need Python 3.11.5; on an older one the ranges of pyproject.toml decide.
PINS := $(shell $(PYTHON) -c 'import sys; print("-c constraints.txt" if sys.version_info >= (3, 11, 5) else "")')

# What lowest and newest run with, as pip finds it: on many machines one build of torch alone can be had.
TORCH ?= torch==2.13.0

# What `make notebooks` runs.
NOTEBOOKS ?= notebooks

.PHONY: demo lab test check notebooks site browser bench lowest newest clean

demo: $(READY)
	$(BIN)/rmu-lab demo

# At the top, so that the notebooks' links to data/ and README.md lead there.
lab: $(READY)
	GOMP_SPINCOUNT=$${GOMP_SPINCOUNT:-1000} $(BIN)/jupyter lab --ServerApp.root_dir="$(CURDIR)" notebooks/00_start_here.ipynb

test: check notebooks

check: $(TESTABLE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadscope

notebooks: $(TESTABLE)
	OMP_NUM_THREADS=1 $(BIN)/pytest --nbval --nbval-current-env -n 2 --dist loadscope $(NOTEBOOKS)

browser: $(READY)
	$(BIN)/python -m pip install $(PINS) -e ".[browser]"
	test -f build/site/index.html || $(MAKE) site
	GOMP_SPINCOUNT=1000 $(BIN)/pytest -rs tests/browser

site: $(READY)
	$(BIN)/python -m pip install $(PINS) -e ".[docs]"
	$(BIN)/python docs/build.py

bench: $(READY)
	$(BIN)/python -m benchmarks

lowest: RESOLUTION := lowest-direct
newest: RESOLUTION := highest
lowest newest:
	$(PYTHON) -m venv --clear .venv-$@
	.venv-$@/bin/python -m pip install --no-deps uv "$(TORCH)"
	.venv-$@/bin/uv pip install --python .venv-$@ --resolution $(RESOLUTION) "$(TORCH)" -e ".[lab,eval,test,cluster]"
	.venv-$@/bin/ruff check .
	.venv-$@/bin/lint-imports
	OMP_NUM_THREADS=1 .venv-$@/bin/pytest -m "not slow"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "rmu-lab needs Python 3.10 or later; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PINS) -e ".[lab,eval,test]"
	touch $(READY)

$(TESTABLE): $(READY)
	$(BIN)/python -m pip install $(PINS) -e ".[cluster]"
	touch $(TESTABLE)

clean:
	rm -rf .venv .venv-lowest .venv-newest
