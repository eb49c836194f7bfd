# Everyday commands: `make` lists them.  They use the environment in .venv (`make set-up` makes it), or the one that PYTHON names.

PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)
TEST   ?= tests
CASE   ?= csv-10k
ROWS   ?= 4000000
export PATH := $(dir $(abspath $(shell command -v $(PYTHON)))):$(PATH)

.PHONY: help set-up build rebuild clean test lint format types check gate bench bench-kernels profile

help:  ## lists the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

set-up:  ## makes .venv with the package (editable) and all that tests, checks and builds need
	python3 -m venv .venv
	.venv/bin/pip install -q $$(python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])')
	.venv/bin/pip install -q --no-build-isolation -e '.[test]'

build:  ## compiles the kernels that changed, in place
	python setup.py -q build_ext --inplace

rebuild: clean build  ## compiles all kernels anew

clean:  ## removes what was built: extensions, Cython's C, bytecode, build/
	git clean -qfdX asyncflow bench tests build -e '!bench/data/'

test:  ## runs the tests on all processors; of one file or folder: make test TEST=tests/plan
	python -m pytest -n auto $(TEST)

lint:  ## style, format and the direction of imports
	ruff check .
	ruff format --check .
	lint-imports --no-cache

format:  ## mends style and format where that can be done by itself
	ruff check --fix .
	ruff format .

types:  ## mypy --strict
	mypy --strict

check: lint types  ## lint and types

gate:  ## all that must hold before a change goes in, from a clean copy (about an hour)
	.ci/run

bench:  ## measures one case beside its peers: make bench CASE=csv-10k ROWS=4000000 (make bench CASE=help lists the cases)
	python bench/compare.py $(if $(filter help,$(CASE)),--help,--case $(CASE) --rows $(ROWS))

bench-kernels:  ## times the kernels alone; only some: make bench-kernels CASE=csv
	python bench/kernels.py $(if $(filter command line,$(origin CASE)),$(CASE))

profile:  ## where one case spends its time, Python and C (py-spy): make profile CASE=csv-10k
	python bench/profiling.py --case $(CASE) --rows $(ROWS)
