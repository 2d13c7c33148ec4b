# make quickstart   a network learns to segment classes it has never seen (minutes)
# make demo         five labelled photographs, and masks of seven others (a minute)
# make test         the tests (JOBS=1 in one process)
# make test-learned the tests of what is learned again, with TensorFlow's own kernels
# make lint         ruff
# make benchmark    what the package costs, into benchmarks/README.md (minutes)
# make results      measured numbers, from their files into the pages
# make docs         the site, in site/ (Python from 3.11)
# make release      the source distribution and the wheel, tried and checked, in dist/
#                   (Python from 3.11)
#
# Each makes .venv first if it is not there yet. PYTHON=... chooses an interpreter.

SUPPORTED = import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	command -v $$p > /dev/null && $$p -c '$(SUPPORTED)' && echo $$p && break; done)
VENV = .venv
# Processes of the tests; each needs about 4 GB. One thread each: more of them than cores
# take a fifth longer.
JOBS ?= 2
THREADS = TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
INSTALLED = $(VENV)/.installed
# What these need is not installed on Python 3.10; see pyproject.toml.
from_3_11 = $(VENV)/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "error: make $@ needs Python 3.11 to 3.13 for $(1), and $(VENV) has" \
	"$$($(VENV)/bin/python -V); remove $(VENV) and name a newer one:" \
	"make $@ PYTHON=/path/to/python3.12"; exit 1; }

.PHONY: demo quickstart test test-learned lint results benchmark docs release

demo: $(INSTALLED)
	$(VENV)/bin/python -m efficientlab_tf.demo

quickstart: $(INSTALLED)
	$(VENV)/bin/python -m efficientlab_tf.quickstart --flagfile=flags/quickstart.flags

test: $(INSTALLED)
	$(THREADS) $(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal

# The default is oneDNN's kernels, which round otherwise: what a network learns must not
# hang on that.
test-learned: $(INSTALLED)
	$(THREADS) TF_ENABLE_ONEDNN_OPTS=0 $(VENV)/bin/python -m pytest -n $(JOBS) \
		--dist worksteal -m learned

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

results: $(INSTALLED)
	$(VENV)/bin/python tools/results.py

benchmark: $(INSTALLED)
	$(VENV)/bin/python tools/benchmark.py table

docs: $(INSTALLED)
	@$(call from_3_11,mkdocs)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet

release: $(INSTALLED)
	@$(call from_3_11,twine)
	rm -rf dist
	DIST=dist PYTHON=$(VENV)/bin/python tools/check_wheel.sh
	$(VENV)/bin/python -m twine check --strict dist/*

$(INSTALLED): pyproject.toml setup.py constraints.txt
	@test -n "$(PYTHON)" || { echo "error: needs Python 3.10 to 3.13;" \
		"install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --upgrade -q pip
	PYTHONWARNINGS=ignore $(VENV)/bin/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@
