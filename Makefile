PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.PHONY: check format lint types test fix docs wheel train bench

check: format lint types test

format:
	$(PYTHON) -m ruff format --check

lint:
	$(PYTHON) -m ruff check

types:
	$(PYTHON) -m pyright --pythonpath "$$(command -v $(PYTHON))"

test:
	$(PYTHON) -m pytest -q

fix:
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

docs:
	cd tests && PYTHONPATH=../benchmarks $(PYTHON) -m errors.document && PYTHONPATH=../benchmarks $(PYTHON) -m standard.document

wheel:
	$(PYTHON) -m build --wheel

train:
	$(PYTHON) examples/train/train_digits.py

bench:
	$(PYTHON) benchmarks/speed.py
