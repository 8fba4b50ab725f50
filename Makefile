# Everything a fresh machine with Python 3.11 or newer and make needs: `make demo` and `make test`.
# The first Python on PATH that runs and is new enough (a name on PATH may be a shim that does not run).
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
    $$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
IPYKERNELS := 6.31.0 7.1.0
# The releases that `make setup` installs, and nothing newer; `make lock` renews them. Empty: the newest.
CONSTRAINTS ?= constraints.txt
PIP = $(if $(CONSTRAINTS),PIP_CONSTRAINT=$(CONSTRAINTS) PIP_BUILD_CONSTRAINT=$(CONSTRAINTS)) $(BIN)/python -m pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BROWSERS := chromium chromium-browser google-chrome google-chrome-stable

# What runs with the lowest and the newest releases of the dependencies: the suites that touch each of them, without the slow ones.
QUICK := tests/protocol tests/frame tests/plugins tests/plugins_room tests/server tests/client tests/dispatch tests/jobs \
    tests/sessions tests/engines/test_output.py tests/engines/test_parts.py tests/engines/test_where_it_runs.py tests/test_exports.py
# The whole of `make test` may take so long. pytest ends by itself first, and names the test (session_timeout in pyproject.toml).
TEST_LIMIT_S ?= 3600
define limited
@$(if $(shell command -v timeout),timeout --foreground --signal=INT --kill-after=60 $(TEST_LIMIT_S)) $(1) || { code=$$?; \
    case $$code in 124|137) echo "stopped: it ran longer than $(TEST_LIMIT_S) s. The file that is named last above holds the test that did not end;"; \
        echo "run that file alone, or allow more time: make test TEST_LIMIT_S=7200";; esac; exit $$code; }
endef

.PHONY: setup opencv lock browser demo test test-newest test-lowest check bench soak lab clean

setup: $(STAMP)

# A headless OpenCV goes before the full one comes: the two wheels would overwrite each other's files. Older ipykernels are
# for the tests in JupyterLab: a folder each, on the libraries of this environment.
$(STAMP): pyproject.toml Makefile $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "forgesyte_nb needs Python 3.11 or newer with venv; name one: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade pip
	@if $(PIP) show --quiet opencv-python-headless 2>/dev/null; then \
	    $(PIP) uninstall -qq --yes opencv-python opencv-python-headless; fi
	$(PIP) install --quiet --editable '.[ml,dev]'
	@$(MAKE) --no-print-directory opencv
	for v in $(IPYKERNELS); do $(BIN)/python -m pip install --quiet --no-deps --upgrade \
	    --target $(VENV)/kernels/ipykernel-$${v%.*} "ipykernel==$$v" || exit 1; done
	@touch $(STAMP)

# The wheel opencv-python needs libGL from the system; where it is missing the headless wheel of the same version takes its place.
opencv:
	@said=$$($(BIN)/python -c 'import cv2' 2>&1) && exit 0; \
	case "$$said" in *libGL*) ;; *) echo "$$said"; exit 1;; esac; \
	version=$$($(BIN)/python -c 'from importlib.metadata import version; print(version("opencv-python"))') || exit 1; \
	echo "libGL.so.1 is missing here, which opencv-python needs: installing opencv-python-headless $$version in its place"; \
	echo "(for the full wheel: apt-get install libgl1, then rm -r $(VENV) and make setup)"; \
	$(PIP) uninstall --quiet --yes opencv-python && $(PIP) install --quiet "opencv-python-headless==$$version"

# Renews constraints.txt: the newest releases that fit, for every Python and platform that pyproject.toml allows.
lock: setup
	printf 'editables\nhatchling\npip\n' | $(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 \
	    --extra ml --extra dev --no-annotate --custom-compile-command 'make lock' --output-file constraints.txt pyproject.toml -

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
	$(call limited,$(BIN)/python -m pytest)
	$(call limited,$(BIN)/python -m pytest --nbval --nbval-cell-timeout=60 notebooks)

# A fresh environment with the newest releases, whatever constraints.txt says.
test-newest:
	rm -rf .venv-newest
	$(MAKE) setup VENV=.venv-newest CONSTRAINTS=
	.venv-newest/bin/python -m pytest $(QUICK)

# A fresh environment with the oldest releases that pyproject.toml allows of what the package needs; tools as they fit.
test-lowest: setup
	rm -rf .venv-lowest
	$(PYTHON) -m venv .venv-lowest
	$(BIN)/uv pip compile --quiet --python .venv-lowest --resolution lowest-direct --only-binary :all: --extra ml --no-annotate \
	    --output-file .venv-lowest/lowest.txt pyproject.toml
	$(BIN)/uv pip install --quiet --python .venv-lowest --constraint .venv-lowest/lowest.txt --editable '.[ml,dev]'
	@$(MAKE) --no-print-directory opencv VENV=.venv-lowest CONSTRAINTS=
	.venv-lowest/bin/python -m pytest $(QUICK)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup browser
	$(BIN)/python -m tests.benchmarks

# The long forms of the suites that the README's reliability table cites: two hours and more.
soak: setup browser
	$(BIN)/python -m pytest --soak --timeout=7200 --session-timeout=86400 tests/chaos tests/fuzz tests/security tests/soak

lab: setup
	$(BIN)/jupyter lab notebooks

clean:
	rm -rf $(VENV) .venv-newest .venv-lowest demo-output bench-output soak-output .mypy_cache .ruff_cache .pytest_cache build dist
