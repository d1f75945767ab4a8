# The commands of development. `make help` lists them; CI calls the same ones.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: restart help setup test runbook check requirements format prove outage mass-delete kills fanout-kills huge hot-key demo clean test-google-client
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

setup: $(READY) ## make .venv with everything pinned

test: $(READY) ## build what is deployed, if that is possible here, and run every test
	@$(MAKE) --no-print-directory build || echo "make build failed, above: the tests of what is deployed are skipped" >&2
	@$(MAKE) --no-print-directory runbook
	$(BIN)/python -m pytest

test-google-client: $(READY) ## run the tests of GCS and the demo with google-cloud-storage in place of the JSON API
	$(BIN)/python -m pytest --gcs-client google-cloud-storage tests/e2e/test_demo.py $(wildcard \
		$(foreach what,fidelity gcs_ contexts kms_key object_lock living_buckets rules,tests/functional/test_$(what)*.py))

runbook: $(READY) ## run the commands of docs/operations.md and make deploy by the real aws command line, against moto
	$(BIN)/python -m pytest -q -m runbook tests/functional/test_operations.py tests/functional/test_deploy.py

check: $(READY) check-template ## check lint, format, types and layers, and the template
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Existing pins stay unless pyproject.toml no longer allows them; `make requirements UPGRADE=--upgrade` takes the newest.
COMPILE_REQUIREMENTS = .venv-uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-strip-extras --no-emit-index-url --no-emit-find-links --annotation-style line \
	--custom-compile-command 'make requirements' $(UPGRADE) pyproject.toml

requirements: ## pin the dependencies of pyproject.toml, with hashes, in requirements.txt and handler/requirements*.txt
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(COMPILE_REQUIREMENTS) --extra emulator --extra google-cloud-storage --group dev --output-file requirements.txt
	$(COMPILE_REQUIREMENTS) --constraint requirements.txt --output-file handler/requirements.txt
	$(COMPILE_REQUIREMENTS) --constraint requirements.txt --extra google-cloud-storage \
		--output-file handler/requirements-google-cloud-storage.txt

format: $(READY) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

prove: $(READY) ## explore every interleaving, run storms of faults, send bad input (docs/proof.md; about 12 minutes)
	$(BIN)/python -m tests.proof

outage: $(READY) ## kill the emulator's GCS server for 60 seconds under load, and check that all copies are equal afterwards
	$(BIN)/python -m pytest -q -s -n 0 -m "slow or not slow" tests/e2e/test_outage.py

mass-delete: $(READY) ## delete 2,000 objects in the emulator, and check that every copy stays
	$(BIN)/python -m pytest -q -s -n 0 -m "slow or not slow" tests/e2e/test_mass_delete.py

restart: $(READY) ## kill the emulator among 2,000 files, and start it on 20,000: only what changed is copied
	$(BIN)/python -m pytest -q -s -n 0 -m "slow or not slow" tests/e2e/test_restart.py

kills: $(READY) ## kill the handler and the GCS server 200 times during uploads, and check every copy after each
	$(BIN)/python -m tests.proof --only storm --kills 200

fanout-scale: $(READY) ## copy 5 TiB in virtual time, at several rates, and count the requests
	$(BIN)/python -m pytest -q -s -m slow tests/unit/test_fanout_scale.py

fanout-kills: $(READY) ## kill instances 20 times while they copy one huge object in parts, and count the bytes read again
	$(BIN)/python -m pytest -q -m slow tests/functional/test_fanout_kills.py
	$(BIN)/python -m tests.proof --only storm --fan-out-kills 20

huge: $(READY) ## replicate 5 GiB, and print both processes' peak memory
	$(BIN)/python -m tests.benchmarks.huge

hot-key: $(READY) ## write one key 1,000 times in 10 seconds, and count the writes at GCS
	$(BIN)/python -m tests.benchmarks.hot_key

demo: $(READY) ## replicate files by real S3 events, and show what happened (a minute)
	$(BIN)/python -m local_emulator demo

include build.mk
include deploy.mk
include bench.mk
include witness.mk

clean: ## remove every file that make and the tools made, except build.mk's (make clean-aws)
	rm -rf $(VENV) .venv-bench .venv-uv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
