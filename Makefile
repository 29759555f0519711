# Two commands do everything on a machine with Python 3.11 and make:
#   make demo    a virtual environment, the installation, and the example: icons form within minutes
#   make test    the same environment, then lint, types, the documentation and tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Made anew whenever what it depends on changes.
READY := $(VENV)/ready
SOURCES := pyproject.toml constraints.txt

.PHONY: demo test test-all lint types docs site-check report-check links figures dist try-dist workflows clean

# Less of it, to try that it works: make demo IMAGES=2000
demo: $(READY)
	$(BIN)/python examples/mel_icon/train.py --quick $(if $(IMAGES),--images $(IMAGES))
	@echo "Open runs/mel_icon_quick/report.html in a browser."

test: lint types docs
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term

# The slow tests too; those that need a CUDA device skip where there is none.
test-all: lint types docs
	$(BIN)/python -m pytest -m ""

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo

types: $(READY)
	$(BIN)/mypy

# The site, without a network; a warning is an error. With PROGAN_INVENTORIES=1 torch's and numpy's names are links too.
docs: $(READY)
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

# The site in headless Chromium, on a phone's and a desk's width, light and dark; skipped where no browser is found.
site-check: docs $(VENV)/site
	$(BIN)/python docs/site_check.py

# Reports of runs in headless Chromium, in the same ways: make report-check RUNS="runs/mel_icon_quick"
report-check: $(VENV)/site
	$(BIN)/python docs/report_check.py $(RUNS)

# Links to other sites; needs a network.
links: $(READY)
	$(BIN)/sphinx-build -q -b linkcheck docs docs/_build/links

$(READY): $(SOURCES)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "progan needs Python 3.11 or later; pass PYTHON=")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all]' --group dev --group docs
	touch $@

# Draws the figures of the documentation anew, from a run of some minutes.
figures: export PYTHONPATH := examples/mel_icon
figures: $(READY)
	for name in small_run growth fade_in minibatch_std speed wgan_gp; do $(BIN)/python docs/figures/$$name.py || exit 1; done

# The files of a release, in dist/, from the last commit: made twice alike, checked, and tried (RELEASING.md).
dist: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)
dist: $(VENV)/dist
	@test -z "$$(git status --porcelain)" || { echo "make dist takes the last commit; commit what git status shows"; exit 1; }
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/repo-review .
	$(MAKE) try-dist TRIAL="$$(mktemp -d)"
	@cd dist && sha256sum *

# Outside of the checkout: the same files from a clone, their types as a user's program sees them, and the example.
try-dist:
	@test -n "$(TRIAL)" || { echo "make dist runs this, in a folder of its own"; exit 1; }
	git clone --quiet . $(TRIAL)/clone
	umask 077 && $(BIN)/python -m build --no-isolation --outdir $(TRIAL)/again $(TRIAL)/clone
	diff -r dist $(TRIAL)/again
	$(PYTHON) -m venv $(TRIAL)/venv
	$(TRIAL)/venv/bin/python -m pip install --quiet -c constraints.txt "$$(echo dist/*.whl)[images]"
	PATH="$(TRIAL)/venv/bin:$$PATH" $(BIN)/pyright --verifytypes progan --ignoreexternal
	tar -xzf dist/*.tar.gz -C $(TRIAL)
	cd $(TRIAL) && venv/bin/python progan-*/examples/mel_icon/train.py --quick
	rm -rf $(TRIAL)

# What is wrong with the workflows, as far as can be told without GitHub.
workflows: $(VENV)/workflows
	$(BIN)/actionlint
	$(BIN)/zizmor --offline --persona auditor .github

# The tools of a target, once it is asked for.
$(VENV)/dist $(VENV)/site $(VENV)/workflows: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt --group $(@F)
	touch $@

clean:
	rm -rf $(VENV) .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache dist docs/_build
