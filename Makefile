# The README's two commands, and what CI runs.
PYTHON ?= python3

.PHONY: demo test lint

demo: .venv/bin/python
	.venv/bin/pip install -e .
	.venv/bin/python launch.py

test: .venv/bin/python
	.venv/bin/pip install -e '.[test]'
	.venv/bin/pytest

lint: .venv/bin/python
	.venv/bin/pip install -e '.[dev]'
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/pyright

.venv/bin/python:
	$(PYTHON) -m venv .venv
