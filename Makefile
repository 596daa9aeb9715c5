# Each command makes its own environment when there is none; PYTHON picks the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-quick test-thorough lint check clean

demo: $(STAMP)
	$(BIN)/uoro compare influence-balancing --backends autograd,torch,jax \
	  --estimators uoro,rtrl,tbptt:200,tbptt:100,tbptt:10 \
	  --steps 100000 --eager-steps 10000 --seed 5 --out results/demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder -m "not thorough"

# Further cases of some tests, which would double the time of all.
test-thorough: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m thorough

# One backend, the core and a slice of the conformance suite: an answer while editing.
QUICK := layers core_is_neutral errors deprecated algorithm_1 algebra reduction joint rtrl truncated \
  streams scaling sweep routes unbiasedness laws learner tasks monitors

test-quick: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile -m "not slow and not thorough" -k "not jax and not torch" \
	  $(QUICK:%=tests/test_%.py)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint test

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist results .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
