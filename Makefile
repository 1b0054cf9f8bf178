# State of the lab (test hosts, images, mirror, tools): one folder for all checkouts of a machine, outside of them.
export LAB ?= $(HOME)/.cache/llm-lab
export CONTAINERS_CONF := $(LAB)/containers.conf
export CONTAINERS_STORAGE_CONF := $(LAB)/storage.conf
export PATH := $(LAB)/venv/bin:$(PATH)
export ANSIBLE_FORCE_COLOR ?= $(if $(CI),0,)
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
LAB_PLAY := ansible-playbook -i inventories/lab
STEP := tests/tools/step

.PHONY: help setup plan site test test-vm test-long lint unit docs molecule lab-check lab lab-down clean benchmark security build

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(LAB)/.python ## Install Ansible and its Python needs (the one set-up step for using a checkout)
	@echo "Ready. Put it on your path: export PATH=$(LAB)/venv/bin:\$$PATH"
	@echo "Then: ansible-playbook site.yml -i inventories/prod"

plan: $(LAB)/.python ## Plan inventories/prod (or INVENTORY=...) and write plan.json and plan.html; contacts no host that has llm_gpus
	@ansible-playbook playbooks/plan.yml -i $(or $(INVENTORY),inventories/prod) -e llm_report_directory=$(LAB)/plan
	@echo "Wrote $(LAB)/plan/plan.json and plan.html"

site: lab ## Start the lab, run site.yml on it, print a real model's answer fetched through the gateway
	@$(STEP) "site.yml on the lab" $(LAB_PLAY) site.yml
	@tests/tools/ask

test: lab-check ## Everything that CI checks
	@$(STEP) "packages and tools" $(MAKE) --no-print-directory $(LAB)/.packages $(LAB)/.python-tests
	@$(STEP) "lint" $(MAKE) --no-print-directory lint
	@$(STEP) "unit tests" $(MAKE) --no-print-directory unit
	@$(STEP) "artifact mirror" molecule/shared/build-mirror.sh
	@tests/tools/scenarios

test-vm: lab-check ## The scenarios that need a kernel of their own, on emulated machines; some only: make test-vm ROLE="luks selinux"
	@$(STEP) "packages and tools" $(MAKE) --no-print-directory $(LAB)/.packages $(LAB)/.packages-vm $(LAB)/.python-tests
	@$(STEP) "artifact mirror" molecule/shared/build-mirror.sh
	@tests/tools/scenarios --vm $(ROLE)

test-long: lab-check $(LAB)/.packages $(LAB)/.python-tests ## The scenarios that are too long for each change
	@$(STEP) "artifact mirror" molecule/shared/build-mirror.sh
	@tests/tools/scenarios --long

lint: $(LAB)/.python-tests ## ansible-lint, ansible-test sanity, yamllint, ruff, mypy, generated docs
	@tests/tools/lint

unit: $(LAB)/.python-tests ## Unit and property tests
	@pytest -q -n 2 tests/unit

docs: $(LAB)/.python-tests ## Regenerate the role pages from the argument specs
	@python tests/tools/role_readme.py

molecule: lab-check $(LAB)/.packages $(LAB)/.python-tests $(if $(wildcard molecule/$(ROLE)),,$(LAB)/.packages-vm) ## One role's scenario: make molecule ROLE=gateway
	@$(if $(ROLE),,$(error Say which one: make molecule ROLE=$(notdir $(firstword $(wildcard roles/*)))))
	@molecule/shared/build-mirror.sh
	@tests/tools/scenarios $(ROLE)

lab: lab-check ## Start the lab's hosts
	@$(STEP) "packages and tools" $(MAKE) --no-print-directory $(LAB)/.packages $(LAB)/.python
	@tests/tools/lab-up

lab-check:
	@tests/tools/lab-check

lab-down: ## Remove the lab's hosts
	@[ ! -e $(LAB)/venv ] || $(LAB_PLAY) molecule/shared/destroy.yml
	@molecule/shared/services.sh stop

clean: lab-down ## Remove all that the lab made, its images and tools too
	@[ ! -e $(LAB)/venv ] || molecule/shared/vm/vm down --all
	@! command -v podman >/dev/null || [ ! -e $(CONTAINERS_CONF) ] || { podman rm -f -v -a; podman network rm -f labnet; podman rmi -af; }
	rm -rf $(LAB)

security: lab-check $(LAB)/.packages $(LAB)/.python-tests ## Audit a lab host before and after the host layer, and write the table in docs/security.md
	@$(STEP) "artifact mirror" molecule/shared/build-mirror.sh
	@tests/tools/security_tables measure

build: $(LAB)/.python ## Build the collection's tarball
	@ansible-galaxy collection build --force

benchmark: ## Print the benchmarks' tables (starts with new lab hosts)
	@$(MAKE) --no-print-directory lab-down lab
	@python tests/benchmarks/site.py -i inventories/lab site.yml
	@tests/tools/packages wrk openssl libnginx-mod-http-lua lua-cjson
	@python tests/benchmarks/gateway.py
	@python tests/benchmarks/sizing.py

APT := podman runc conmon netavark aardvark-dns iptables nftables mmdebstrap apt-cacher-ng nginx-light openssh-client iproute2 procps \
	python3-venv cmake g++ make curl unzip zstd git gnupg ca-certificates
APT_VM := qemu-system-x86 qemu-utils seabios swtpm fdisk e2fsprogs mmdebstrap zstd iproute2 openssh-client

$(LAB)/.packages: Makefile
	@tests/tools/packages $(APT)
	@touch $@

$(LAB)/.packages-vm: Makefile
	@tests/tools/packages $(APT_VM)
	@touch $@

$(LAB)/.python: requirements.txt
	@mkdir -p $(LAB)
	@python3 -m venv $(LAB)/venv || { echo "python3 -m venv failed: install the package python3-venv" >&2; exit 1; }
	@$(LAB)/venv/bin/pip install -q -r requirements.txt
	@touch $@

$(LAB)/.python-tests: tests/requirements.txt $(LAB)/.python
	@$(LAB)/venv/bin/pip install -q -r tests/requirements.txt
	@touch $@
