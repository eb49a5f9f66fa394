# All that a person or a CI does with this project. `make` alone lists it.

.DEFAULT_GOAL := help
.PHONY: help venv test services demo ui bench screenshots lint clean

PYTHON ?= python3
PYTEST_ARGS ?=
UV := $(or $(shell command -v uv 2>/dev/null),$(CURDIR)/build/uv/bin/uv)
export UV
# Airflow and the tasks import thousands of modules: compile them once, whatever the surroundings say.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv/installed
RUN := .venv/bin/python
BENCHMARKS := $(filter-out __init__,$(basename $(notdir $(wildcard benchmarks/*.py))))

# What the tests against real services start for themselves, and the Debian packages that have it.
SERVICES := munged slurmctld slurmd slurmdbd sbatch sshd ssh sudo tcsh fish mariadbd redis-server docker-compose \
	shellcheck chromium
SERVICE_PACKAGES := munge slurmctld slurmd slurmdbd slurm-client openssh-server openssh-client sudo tcsh fish \
	mariadb-server redis-server docker-compose shellcheck chromium

# Installs a Debian package, or says who can: $(call apt_install,PACKAGE,REASON)
apt_install = if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y $(1) >/dev/null; \
	else echo "$(2): run 'sudo apt-get install $(1)' first" >&2; exit 1; fi

help: ## List the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 13

venv: $(VENV) ## Make the Python environment in .venv

# uv comes from pip into an environment of its own, which Debian's guard of the system's packages lets be.
$(CURDIR)/build/uv/bin/uv:
	@$(PYTHON) -m ensurepip --version >/dev/null 2>&1 || $(call apt_install,python3-venv,Python makes no environments)
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install --quiet uv

# The stamp comes last, so that an interrupted installation is done again.
$(VENV): pyproject.toml | $(UV)
	$(UV) venv --quiet --allow-existing --python 3.11 .venv
	$(UV) pip install --quiet --python $(RUN) --editable '.[celery,postgres]' --group dev
	@touch $@

test: $(VENV) ## Run all tests; PYTEST_ARGS="-k name" chooses some
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
		$(call apt_install,postgresql,The tests of the dataset store need a PostgreSQL)
	@[ "$(CI)" != true ] || $(MAKE) --no-print-directory services
	$(RUN) -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

services: ## Install what the tests against a real SLURM cluster and a browser need (without it they are skipped); as root
	@PATH="$$PATH:/usr/sbin:/sbin"; for program in $(SERVICES); do command -v $$program >/dev/null || { \
		$(call apt_install,$(SERVICE_PACKAGES),The tests of a cluster or a browser need $$program) || exit 1; break; }; done

demo: $(VENV) ## Run the demo: from the raw images of a plate to the nuclei in its wells, under a real Airflow
	@$(RUN) demo/run.py

ui: $(VENV) ## Open Airflow on the runs of the demo
	@$(RUN) demo/ui.py

bench: $(VENV) ## Run the benchmarks
	@for name in $(BENCHMARKS); do echo "== $$name"; $(RUN) -m benchmarks.$$name || exit 1; done

screenshots: $(VENV) ## Make the pictures of the trigger form in docs/ again, with chromium
	@$(RUN) -m tests.browser.screenshots

lint: $(VENV) ## Check style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/mypy --ignore-missing-imports demo # numpy and its like are in the task environments

clean: ## Remove all that make has made
	rm -rf .venv .demo build .mypy_cache .pytest_cache .ruff_cache .hypothesis
