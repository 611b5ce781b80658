# The two commands of the README, and the commands of developers. EXTRAS=cuda or EXTRAS=tpu installs an accelerator
# build of jax.

# The newest supported Python that runs.
PYTHON ?= $(firstword $(foreach name,python3.14 python3.13 python3.12 python3.11,$(shell $(name) -c "" 2>/dev/null && echo $(name))) python3)
EXTRAS ?=
ARGS ?=
RUN := .venv/bin/python -m

.PHONY: environment demo pretrained test test-slow test-beam lint format docs requirements

environment:
	@$(PYTHON) launch/environment.py --extras "$(EXTRAS)"

demo: environment
	@$(RUN) mqmha_jax demo $(ARGS)

test: environment
	$(RUN) pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: environment
	$(RUN) pytest -m slow $(ARGS)

# Apache Beam in an environment of its own, see data_prep/requirements-beam.txt.
BEAM := build/beam-venv

test-beam:
	$(PYTHON) -m venv $(BEAM)
	$(BEAM)/bin/python -m pip install --quiet --requirement data_prep/requirements-beam.txt
	$(BEAM)/bin/python -m pip install --quiet --no-deps --editable .
	$(BEAM)/bin/python -m pytest -m "slow or not slow" tests/data_prep/test_beam.py $(ARGS)

# 3D-Speaker's CAM++ as a run in build/pretrained/campplus. ARGS="FIRST SECOND" compares two recordings with it.
pretrained: environment
	@.venv/bin/python launch/pretrained.py $(ARGS)

lint: environment
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

format: environment
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

# The documentation site in build/site; every warning is an error.
docs: environment
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --quiet --strict

requirements:
	echo "# Compiled from pyproject.toml for Python 3.11 to 3.14; do not edit. To renew: make requirements" > requirements.txt
	uv pip compile --quiet --universal --python-version 3.11 --extra test --extra dev --extra docs --no-annotate --no-header --no-emit-index-url pyproject.toml >> requirements.txt
