# Deitos Cluster on this computer: a lab of five machines, and the tests. `make help` lists it all.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Each step needs what the one before it made.
.NOTPARALLEL:

# The lab's name: its machines, network, domain and realm follow from it.
LAB ?= deitos
# The lab of `make test`, and the stem of those of further scenarios: each checkout has its own.
TEST_LAB ?= test-$(shell printf %s "$(CURDIR)" | md5sum | cut -c -4)
VENV ?= .venv
PYTHON ?= /usr/bin/python3
HOST ?= edge1
# More for ansible-playbook, e.g. ARGS="--check --diff" or ARGS="--limit worker2".
ARGS ?=
# What the tests write for other programs to read.
RESULTS ?= results

STATE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/deitos-cluster/labs/$(LAB)

export LAB TEST_LAB
export MOLECULE_COMMAND_BORDERS := false
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Python's own list of authorities does not know those that a site adds to the system's.
export PIP_CERT ?= /etc/ssl/certs/ca-certificates.crt
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: help
help: ## What can be done here
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' $(MAKEFILE_LIST) \
	    | awk -F'|' '{ printf "  make %-16s %s\n", $$1, $$2 }'
	@echo '  LAB=name names the lab (now: $(LAB)); make cluster on bare Debian 12 needs root, make and git.'

.PHONY: cluster
cluster: machines converge verify ## Stand up the cluster, run real work on it, say how to use it
	@python lab/summary.py

.PHONY: setup
setup:
	@sh lab/prepare.sh
	@$(MAKE) $(VENV)/.requirements

# The stamp is written last: an interrupted installation is made anew.
$(VENV)/.requirements: requirements.txt
	@echo "make: installing the packages of requirements.txt into $(VENV)"
	@rm -f $@
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@cp requirements.txt $@

.PHONY: machines
machines: setup
	@python lab/lab.py build
	@python lab/lab.py up
	@ansible-playbook lab/container_executor/install.yml

.PHONY: converge
converge: ## Run playbooks/site.yml on the lab (ARGS="--check --diff" to see only)
	@DEITOS_PLANE_TIMES=$(STATE)/planes.json ansible-playbook playbooks/site.yml $(ARGS)

.PHONY: verify
verify: ## Run playbooks/verify.yml on the lab: a real job, as an ordinary user
	@ansible-playbook playbooks/verify.yml

.PHONY: ssh
ssh: ## A shell on a machine: make ssh HOST=edge1
	@$(PYTHON) lab/lab.py ssh $(HOST)

.PHONY: status
status: ## What runs where, and how to reach it
	@python lab/summary.py

.PHONY: destroy
destroy: ## Remove the lab's machines and network (caches stay)
	@$(PYTHON) lab/lab.py down

.PHONY: lint
lint: setup ## ruff, yamllint, ansible-lint
	@echo "make: ruff, yamllint, ansible-lint"
	@ruff check .
	@ruff format --check .
	@yamllint --strict .
	@ansible-lint

.PHONY: unit
unit: setup ## Unit tests of filters, modules and tools
	@echo "make: unit tests"
	@sh tests/kdc_tools.sh
	@KDC_REQUIRED=1 pytest --quiet --junit-xml=$(RESULTS)/unit.xml

.PHONY: sanity
sanity: setup ## ansible-test sanity on the collection
	@echo "make: ansible-test sanity"
	@python tests/sanity/run.py

# One Molecule scenario: it makes a lab of its own, and removes it again.
scenario-%: setup
	@python lab/lab.py build
	@echo "make: molecule scenario $*"
	@RESULTS=$(abspath $(RESULTS)) molecule test --scenario-name $*

.PHONY: test
test: ## All that CI runs: lint, unit, sanity, the whole site in a lab of its own
	@rm -rf $(RESULTS)
	@$(MAKE) setup
# Mostly downloads, beside what needs a processor.
	@python lab/lab.py build & building=$$!; \
	    trap 'pkill --parent $$building || true; kill $$building 2>/dev/null || true' EXIT; \
	    $(MAKE) lint unit sanity; \
	    wait $$building
	@$(MAKE) scenario-default
	@python tests/count.py $(RESULTS)

# A part that fails does not hide what the others would have found.
.PHONY: test-long
test-long: ## Everything else: further scenarios, the chain of killed runs, the benchmarks
	@rm -rf $(RESULTS)
	@status=0; \
	    $(MAKE) --keep-going $(addprefix scenario-,identity warehouse notebooks llama) long bench \
	        || status=$$?; \
	    $(PYTHON) tests/count.py $(RESULTS) || status=$$?; \
	    exit $$status

.PHONY: long
long: setup
	@python lab/lab.py build
	@echo "make: long tests"
	@pytest --verbose --junit-xml=$(RESULTS)/long.xml tests/long

.PHONY: bench
bench: setup ## Time modules, model server, jobs and notebooks, a cold converge and a second one
	@sh tests/kdc_tools.sh
	@python bench/principals.py
	@python bench/config.py
	@python bench/llama.py
	@python lab/lab.py build
	@python bench/converge.py
