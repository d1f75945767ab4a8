# Builds and checks the template and the artifact; the Makefile includes this. AWS's tools are pinned in requirements-aws.txt,
# and each set has an environment of its own.
# The processor, by default that of the last build, so that no later command silently builds for another.
ifndef ARCHITECTURE
ARCHITECTURE := $(or $(patsubst .aws-sam/for-%,%,$(firstword $(wildcard .aws-sam/for-*))),arm64)
endif
# The client of GCS in the artifact, by default that of the last build too.
ifndef GCS_CLIENT
GCS_CLIENT := $(or $(patsubst .aws-sam/with-%,%,$(firstword $(wildcard .aws-sam/with-*))),json-api)
endif
# In AWS the handler runs on Python $(PYTHON_VERSION). If this machine has none, the artifact to run here is built for its own Python.
PYTHON_VERSION := 3.13
TARGET_PYTHON ?= $(shell for python in python$(PYTHON_VERSION) "$$(uv python find $(PYTHON_VERSION) 2>/dev/null)" \
	"$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$(PYTHON_VERSION).*/bin/python; do \
	"$$python" -c 'import sys; print(sys.executable)' 2>/dev/null && break; done)
DESK_ARCHITECTURE := $(subst aarch64,arm64,$(shell uname -m))
DESK_PYTHON = $(or $(TARGET_PYTHON),$(abspath $(BIN)/python))
DESK_PYTHON_VERSION = $(shell $(DESK_PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')

BUILT := .aws-sam/build/template.yaml
DESK := .aws-sam/desk/ReplicatorFunction
RUNTIME := .aws-sam/runtime
SAM_READY := .venv-sam/.ready
LINT_READY := .venv-lint/.ready
HANDLER := $(shell find handler -name '*.py') handler/Makefile $(wildcard handler/requirements*.txt)
# Without telemetry and without an account: otherwise sam looks for credentials, and asks AWS whose they are.
SAM := env -u AWS_PROFILE -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY -u AWS_SESSION_TOKEN \
	SAM_CLI_TELEMETRY=0 AWS_EC2_METADATA_DISABLED=true AWS_DEFAULT_REGION=us-east-1 .venv-sam/bin/sam
# sam keeps the processor of an existing stack, so the built template allows only the processor that its code was built for.
PIN = sed -e '/^  Architecture:/,/^    Default:/{' -e '/^    - /{' -e '/ $(ARCHITECTURE)$$/!d' -e '}' \
	-e 's/^    Default: .*/    Default: $(ARCHITECTURE)/' -e '}' $(CHOOSE) $(BUILT) > $(BUILT).pinned && mv $(BUILT).pinned $(BUILT)
# If Google's client is built in, every function gets the variable that selects it.
CHOOSE = $(if $(filter google-cloud-storage,$(GCS_CLIENT)),-e '/^ *REPLICATION_RULES:/{' -e h \
	-e 's/REPLICATION_RULES:.*/GCS_CLIENT: $(GCS_CLIENT)/' -e p -e g -e '}')
part = sed -n '/^\# == $(1)/,/^\# == /p' requirements-aws.txt

.PHONY: build package-report bench-cold sam-local check-template clean-aws

$(SAM_READY): requirements-aws.txt
	$(PYTHON) -m venv .venv-sam
	$(call part,sam) > .venv-sam/requirements.txt
	.venv-sam/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r .venv-sam/requirements.txt
	@touch $@

$(LINT_READY): requirements-aws.txt
	$(PYTHON) -m venv .venv-lint
	$(call part,checkov) > .venv-lint/requirements.txt
	.venv-lint/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r .venv-lint/requirements.txt
	@touch $@

.aws-sam/for-$(ARCHITECTURE): # another processor needs another artifact
	mkdir -p .aws-sam && rm -f .aws-sam/for-* && touch $@

.aws-sam/with-$(GCS_CLIENT): # and so does another client
	mkdir -p .aws-sam && rm -f .aws-sam/with-* && touch $@

$(BUILT): $(SAM_READY) $(READY) $(HANDLER) template.yaml .aws-sam/for-$(ARCHITECTURE) .aws-sam/with-$(GCS_CLIENT)
	ARCHITECTURE=$(ARCHITECTURE) PYTHON_VERSION=$(PYTHON_VERSION) PYTHON=$(abspath $(BIN)/python) TARGET_PYTHON=$(TARGET_PYTHON) \
		GCS_CLIENT=$(GCS_CLIENT) \
		$(SAM) build --parameter-overrides Architecture=$(ARCHITECTURE)
	$(PIN)

# The same recipe for this machine's own processor and Python, to be run here.
$(DESK)/.complete: $(READY) $(HANDLER) .aws-sam/with-$(GCS_CLIENT)
	rm -rf $(DESK) && mkdir -p $(DESK)
	$(MAKE) -s --no-print-directory -C handler build-ReplicatorFunction ARTIFACTS_DIR=$(abspath $(DESK)) PYTHON=$(abspath $(BIN)/python) \
		ARCHITECTURE=$(DESK_ARCHITECTURE) PYTHON_VERSION=$(DESK_PYTHON_VERSION) TARGET_PYTHON=$(DESK_PYTHON) \
		GCS_CLIENT=$(GCS_CLIENT)
	@touch $@

$(RUNTIME)/.ready: $(SAM_READY) $(READY)
	rm -rf $(RUNTIME) && mkdir -p $(RUNTIME)
	$(call part,runtime) > $(RUNTIME)/requirements.txt
	$(DESK_PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
		--target $(RUNTIME) -r $(RUNTIME)/requirements.txt
	ln -s $(DESK_PYTHON) $(RUNTIME)/python
	ln -s $(abspath $(wildcard .venv-sam/lib/python*/site-packages/samcli/local/rapid))/aws-lambda-rie-$(DESK_ARCHITECTURE) $(RUNTIME)/aws-lambda-rie
	@touch $@

build: $(BUILT) $(DESK)/.complete $(RUNTIME)/.ready ## build what is deployed (ARCHITECTURE=arm64 or x86_64), and the same for this machine

package-report: build ## print the sizes of what is deployed, and the time of its cold start
	$(BIN)/python -m tests.benchmarks.cold_start --sizes .aws-sam/build/ReplicatorFunction --runs 5

bench-cold: build ## measure the cold starts of a trivial handler, ours, and ours without byte code
	$(BIN)/python -m tests.benchmarks.cold_start --runs 15

check-template: $(SAM_READY) $(LINT_READY) ## lint template.yaml: sam, cfn-lint, checkov
	$(SAM) validate --lint --template template.yaml
	.venv-sam/bin/cfn-lint --append-rules cfn_lint_serverless.rules --regions us-east-1 eu-central-1 -- template.yaml
	.venv-lint/bin/checkov --skip-download --framework cloudformation --file template.yaml --compact --quiet
	.venv-lint/bin/checkov --skip-download --framework terraform --directory docs/terraform --compact --quiet

sam-local: $(BUILT) ## invoke the built function in Docker (EVENT=events/s3-put.json)
	$(BIN)/python -m tests.functional.sam_local $(or $(EVENT),events/s3-put.json)

clean-aws: ## remove every file that make build and make check-template made
	rm -rf .venv-sam .venv-lint .aws-sam
