# Set-up, demo, tests and checks. PYTHON=… chooses the interpreter, PORT=… the demo's port.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PORT ?= 8000
# A version specifier, such as DJANGO=~=6.0.0; it stays until another is asked for. Without one, the newest that the
# interpreter can run.
DJANGO ?=

.PHONY: demo demo-cluster test faults bench check guarantees clean FORCE

demo: $(VENV)/.demo
	PORT=$(PORT) $(BIN)/python manage.py demo

demo-cluster: $(VENV)/.cluster
	PORT=$(PORT) $(BIN)/python -m demo_project.cluster

test: $(VENV)/.test
	$(BIN)/python -m pytest -m "not long" --cov --cov-report=term $(ARGS)

# All of tests/faults, the long ones too, several at a time.
faults: $(VENV)/.test
	$(BIN)/python -m tests.faults.suite $(ARGS)

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.fanout
	$(BIN)/python -m benchmarks.publish

check: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py check
	$(BIN)/python -m pytest -q tests/test_layers.py

# Every test that proves a promise, a million deliveries among random kills, and docs/guarantees.md from what came out.
guarantees: $(VENV)/.test
	$(BIN)/python -m tests.faults.report $(ARGS)

# Each target installs its dependency group of pyproject.toml: once, but always where a DJANGO is asked for. A venv
# without pip, which Debian leaves where python3-venv is missing, or of a Python that is too old, is made anew.
$(VENV)/.%: pyproject.toml $(if $(DJANGO),FORCE)
	$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group $* "django$(DJANGO)"
	touch $@

FORCE:

clean:
	rm -rf $(VENV) tests/npm/node_modules demo.sqlite3*
