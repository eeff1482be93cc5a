# make demo   trains, evaluates, exports, and uses the export without tfmeta
# make test   runs the whole suite
# Both make the virtual environment .venv first, if it is not there yet.

PYTHON ?= $(firstword $(shell command -v python3.11 python3))
BIN := .venv/bin

export TF_CPP_MIN_LOG_LEVEL ?= 3
export PYTHONUNBUFFERED := 1

# Real Omniglot, prepared by TFDS, where a copy lies beside the checkout.
ifneq ($(wildcard ../shared/data/tfds/omniglot),)
  export TFDS_DATA_DIR ?= $(abspath ../shared/data/tfds)
endif

.PHONY: install demo test lint bazel build_file public_api clean

install: .venv/installed

.venv/installed: setup.py pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

# The second program runs where tfmeta cannot be imported: -S leaves out the
# links of editable packages, -P leaves out the folder of the program.
demo: install
	$(BIN)/python -m trainers.maml
	PYTHONPATH=$$($(BIN)/python -c "import sysconfig; \
	  print(sysconfig.get_path('purelib'))") \
	  $(BIN)/python -S -P examples/classify_without_tfmeta.py \
	  runs/maml/saved_model

test: install
	$(BIN)/python -m pytest -n 3 --dist load --maxschedchunk 1

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# Debian: apt-get install --no-install-recommends bazel-bootstrap bazel-rules-java
bazel: install
	PATH="$(CURDIR)/$(BIN):$$PATH" bazel test //... ; \
	  status=$$?; bazel shutdown; exit $$status

# After adding a file or an import.
build_file: install
	$(BIN)/python tests/repository/build_file.py > BUILD.new
	mv BUILD.new BUILD

# After changing what tfmeta offers.
public_api: install
	$(BIN)/python tests/repository/public_names.py > public_api.new
	mv public_api.new tests/repository/public_api.txt

clean:
	rm -rf .venv build dist runs *.egg-info bazel-*
	find . -name __pycache__ -prune -exec rm -rf {} +
