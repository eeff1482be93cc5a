# make demo          trains, evaluates, exports, and uses the export without
#                    tfmeta
# make test          runs all tests but the long ones
# make test_all      runs all tests
# make test_lowest   runs the tests of `make test` with the oldest packages that
#                    are supported
# Each first creates the virtual environment that it needs.

PYTHON ?= $(firstword $(shell command -v python3.11 python3))
BIN := .venv/bin

export TF_CPP_MIN_LOG_LEVEL ?= 3
export PYTHONUNBUFFERED := 1

# TensorFlow Datasets finds Omniglot here if a copy lies beside the checkout.
ifneq ($(wildcard ../shared/data/tfds/omniglot),)
  export TFDS_DATA_DIR ?= $(abspath ../shared/data/tfds)
endif

.PHONY: install demo test test_all test_lowest lint bazel build_file public_api clean

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

# The second program runs where tfmeta cannot be imported: -S ignores editable
# packages, and -P keeps the folder of the program off the path.
demo: install
	$(BIN)/python -m trainers.maml
	PYTHONPATH=$$($(BIN)/python -c "import sysconfig; \
	  print(sysconfig.get_path('purelib'))") \
	  $(BIN)/python -S -P examples/classify_without_tfmeta.py \
	  runs/maml/saved_model

PYTEST := -m pytest -n 3 --dist load --maxschedchunk 1

test: install
	$(BIN)/python $(PYTEST) -m "not long"

test_all: install
	$(BIN)/python $(PYTEST)

# The same tests as in `make test` with the lowest versions that pyproject.toml allows, in an
# environment of their own. TensorFlow's lowest one needs Python 3.11 or 3.12.
test_lowest: .venv_lowest/installed
	.venv_lowest/bin/python $(PYTEST) -m "not long"

.venv_lowest/installed: pyproject.toml
	rm -rf .venv_lowest
	$(PYTHON) -m venv .venv_lowest
	.venv_lowest/bin/python tests/repository/lowest_versions.py \
	  > .venv_lowest/constraints.txt
	.venv_lowest/bin/python -m pip install --quiet --editable ".[dev]" \
	  --constraint .venv_lowest/constraints.txt
	touch $@

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# On Debian, this installs Bazel: apt-get install --no-install-recommends
# bazel-bootstrap bazel-rules-java
bazel: install
	PATH="$(CURDIR)/$(BIN):$$PATH" bazel test //... ; \
	  status=$$?; bazel shutdown; exit $$status

# Run this after you add a file or an import.
build_file: install
	$(BIN)/python tests/repository/build_file.py

# Run this after you change the public names of tfmeta.
public_api: install
	$(BIN)/python tests/repository/public_names.py > public_api.new
	mv public_api.new tests/repository/public_api.txt

clean:
	rm -rf .venv .venv_lowest build dist runs *.egg-info bazel-*
	find . -name __pycache__ -prune -exec rm -rf {} +
