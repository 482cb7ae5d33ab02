# The front door. `make demo` and `make test` do all set-up on a fresh Debian machine (git, python3, make; as root).
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
BOROUGH := $(VENV)/bin/borough
# The Debian packages that a list in images/ names, installed where they are missing.
define install_packages
@mkdir -p .state
@packages=$$(grep -v '^#' $<); \
if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
  missing=$$(for package in $$packages; do dpkg -s $$package >/dev/null 2>&1 || echo $$package; done); \
  if [ -n "$$missing" ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; fi; \
else echo "Not root on Debian: install by hand:" $$packages; fi
@touch $@
endef

.PHONY: help setup demo region test region-test check format bench clean lock stubs

help: ## Show what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: .state/setup.done ## Install everything: system packages, Python packages, models, the Asterisk image

.state/system.done: images/dev-packages.txt
	$(install_packages)

.state/emulator.done: images/emulator-packages.txt .state/system.done
	$(install_packages)

.state/python.done: pyproject.toml requirements.lock .state/system.done
	@test -x .state/uv/bin/uv || { python3 -m venv .state/uv && .state/uv/bin/pip install -q uv; }
	@test -x $(PYTHON) || python3 -m venv $(VENV)
	@.state/uv/bin/uv pip sync --quiet --python $(PYTHON) --require-hashes requirements.lock
	@.state/uv/bin/uv pip install --quiet --python $(PYTHON) --no-deps --editable .
	@touch $@

lock: .state/python.done ## Write requirements.lock anew from pyproject.toml
	@.state/uv/bin/uv pip compile --quiet --group dev --generate-hashes --no-emit-index-url --no-header \
	  --universal --python-version 3.11 --output-file requirements.lock pyproject.toml

.state/setup.done: .state/python.done provisioning/models/registry.toml images/asterisk/packages.txt
	@$(BOROUGH) setup
	@touch $@

stubs: .state/python.done ## Write the stubs of contract/*.proto anew
	@PATH=$(VENV)/bin:$$PATH $(PYTHON) -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. --mypy_out=. --mypy_grpc_out=. contract/*.proto
	@rm -f contract/uplink_pb2_grpc.py* contract/downlink_pb2_grpc.py*

demo: setup ## One region on this machine: a real SIP call, then a WebRTC call, printed with their latencies
	@$(BOROUGH) demo

region: setup ## A hub and a region of three nodes as machines inside this one, provisioned by the playbooks; needs root
	@$(BOROUGH) machines region

# Judges of the alert rules. Unpacked and not installed: their packages start services.
.state/tools.done: .state/system.done
	@mkdir -p .state/tools
	@cd .state/tools && if apt-get download -qq prometheus prometheus-exporter-exporter; then \
	  for package in *.deb; do dpkg-deb --extract "$$package" . && rm "$$package"; done; \
	else echo "No Debian here: without promtool the tests of alert rules are skipped"; fi
	@touch $@

test: setup .state/tools.done ## All tests, on real parts
	@PATH=$(CURDIR)/.state/tools/usr/bin:$$PATH $(VENV)/bin/pytest -q

region-test: setup .state/emulator.done ## The tests of whole machines (an hour)
	@$(VENV)/bin/pytest -q -m region tests

check: .state/python.done ## Format, lint, types, import rules, playbooks
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy contract edge controlplane provisioning bench tests
	@$(VENV)/bin/lint-imports
	@cd ansible && PATH=$(CURDIR)/$(VENV)/bin:$$PATH yamllint --strict .
	@cd ansible && PATH=$(CURDIR)/$(VENV)/bin:$$PATH ansible-lint --offline -q --profile production

format: .state/python.done ## Format and mend what ruff can mend
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

SCENARIOS := --scenario bench/scenarios/harbour-bank.yaml --scenario bench/scenarios/volt-electronics.yaml

bench: setup ## The measurements, as one JSON document a line (two hours)
	@$(BOROUGH) up >/dev/null; trap '$(BOROUGH) down >/dev/null' EXIT; \
	$(BOROUGH) bench calls $(SCENARIOS) --calls 40 --concurrency 1 --json; \
	$(BOROUGH) bench calls $(SCENARIOS) --calls 100 --concurrency 8 --json; \
	$(BOROUGH) bench capacity $(SCENARIOS) --json; \
	$(BOROUGH) bench soak --json; \
	$(BOROUGH) bench torture --json; \
	$(BOROUGH) bench recognition --json
	@$(BOROUGH) up --regions in-south:2,eu-central:1 >/dev/null; trap '$(BOROUGH) down >/dev/null' EXIT; \
	$(BOROUGH) bench sync --json; \
	$(BOROUGH) bench autonomy --cut hub --json; \
	$(BOROUGH) bench autonomy --cut leaf --json
	@$(BOROUGH) bench durability --json
	@$(BOROUGH) bench retrieval --json
	@$(BOROUGH) bench sketches --json

clean: ## Remove everything that set-up made
	rm -rf .venv .state
