# make demo   the main job on real data            make test   everything that CI runs
# make help   the other targets
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Idle OpenMP threads must sleep: spinning ones starve a small machine.
export OMP_WAIT_POLICY := passive
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export GX_ANALYTICS_ENABLED := false
export DVC_NO_ANALYTICS := 1
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install tools demo test lint types imports rendered reference unit coverage format lock wheel clean

help:  ## Say what each target does
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

install: $(INSTALLED)  ## Make .venv from the lock file

$(INSTALLED): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cd4ml needs Python 3.11 or newer; name one with PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(INSTALLED)

tools: $(INSTALLED) tests/ci/node_modules/.installed  ## Install what the tests of CI run: gitlab-ci-local, rsync
	@command -v rsync >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -qq --yes rsync >/dev/null; } \
		|| { echo "rsync is missing, and gitlab-ci-local needs it: sudo apt-get install rsync" >&2; exit 1; }

tests/ci/node_modules/.installed: tests/ci/package.json tests/ci/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing, and the tests of CI need it: install Node.js 20 or newer" >&2; exit 1; }
	cd tests/ci && npm ci --no-progress --loglevel=error
	@touch $@

demo: $(INSTALLED)  ## Run the main job on real data; DEMO_DIR= says where
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m demo $(if $(DEMO_DIR),--directory "$(DEMO_DIR)")

test: lint types imports rendered unit  ## Everything that CI runs

lint: $(INSTALLED)  ## Style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)  ## mypy, strict
	$(BIN)/mypy

imports: $(INSTALLED)  ## The levels of the house
	$(BIN)/lint-imports

rendered: $(INSTALLED)  ## dvc.yaml, the workflow and the reference pages are as templates, conf/ and code give
	$(BIN)/cd4ml render --check
	$(BIN)/python -m docs.reference --check

reference: $(INSTALLED)  ## Write the reference pages from the code
	$(BIN)/python -m docs.reference

# Every command that a test starts imports them: they are compiled once, whatever PYTHONDONTWRITEBYTECODE says.
unit: $(INSTALLED) tools  ## Tests
	@$(BIN)/python -m compileall -q cd4ml
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST)

coverage: $(INSTALLED) tools  ## The same, and what of the code they reach, in half as much time again
	$(MAKE) unit PYTEST="--cov --cov-report=term $(PYTEST)"

format: $(INSTALLED)  ## Format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(INSTALLED)  ## Resolve the dependencies anew
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -c requirements.lock --extra dev pyproject.toml -o requirements-dev.lock

wheel: $(INSTALLED)  ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

clean:  ## Remove what can be made again
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov artifacts params.yaml dvc.lock
