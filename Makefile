# Fresh machine: `make quickstart` runs the main job on real data, `make test` the tests. Both build .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= cpu# or cuda
STAMP := $(VENV)/.installed
# Nothing but what the locks name, whose digests pip compares; what comes as source is built with the setuptools of them.
LOCKED := $(BIN)/python -m pip install --quiet --require-hashes --no-deps --no-build-isolation

unexport PYTHONDONTWRITEBYTECODE  # or every process compiles every file anew

.PHONY: quickstart test test-all lint ui bench clean

quickstart: $(STAMP)
	$(BIN)/sesame run quickstart

ui: $(STAMP)
	$(BIN)/sesame ui

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m "not slow and not alone"
	$(BIN)/python -m pytest -q -m "alone and not slow" $$(grep -rl --include=*.py "mark\.alone" tests)

test-all: $(STAMP)
	$(BIN)/python -m pytest -q --hypothesis-profile searching
	$(BIN)/python -m tests.mutations

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

bench: $(STAMP)
	$(LOCKED) -r infra/locks/bench.txt
	$(BIN)/python -m tests.benchmarks.loop
	$(BIN)/python -m tests.benchmarks.loops
	$(BIN)/python -m tests.benchmarks.step
	$(BIN)/python -m tests.benchmarks.plan
	$(BIN)/python -m tests.benchmarks.memory
	$(BIN)/python -m tests.benchmarks.data speed
	$(BIN)/python -m tests.benchmarks.data memory
	$(BIN)/python -m tests.benchmarks.downstream.anomaly

clean:
	rm -rf $(VENV) build *.egg-info

$(STAMP): pyproject.toml $(wildcard infra/locks/*.txt)
	$(PYTHON) -m venv $(VENV)
	$(LOCKED) -r infra/locks/build.txt
	$(LOCKED) -r infra/locks/$(TORCH).txt || $(LOCKED) -r infra/locks/cuda.txt  # PyPI has no torch for CPUs alone
	$(LOCKED) -r infra/locks/runtime.txt -r infra/locks/dev.txt -r infra/locks/adapters.txt -r infra/locks/onnx.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	touch $(STAMP)
