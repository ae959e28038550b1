# Two commands: `make demo` and `make test`. Each does its own set-up inside this checkout.

PYTHON ?= python3
ENGINE ?= gpaw
ifeq ($(filter $(ENGINE),emt ionic gpaw),)
$(error ENGINE=$(ENGINE): expected emt, ionic or gpaw)
endif
# What pip installs first. On a Linux machine without a GPU, name PyTorch's own index of CPU builds as well:
# the usual build brings gigabytes of CUDA.  make demo TORCH='torch==2.13.0 --index-url ...'
TORCH ?= torch==2.13.0

VENV := .venv
LOWEST := .venv-lowest
AUDIT := .venv-audit
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_GPAW := $(VENV)/.installed-gpaw
INSTALLED_DOCS := $(VENV)/.installed-docs

# Nothing of the demo reaches the home folder; `PIP_CACHE=` lets pip keep what it downloads there. What is imported is
# compiled then, once, which nothing may forbid: all of the packages at once take over a minute.
PIP_CACHE ?= --no-cache-dir
unexport PYTHONDONTWRITEBYTECODE
export AIIDA_PATH := $(CURDIR)/.aiida
export PATH := $(CURDIR)/$(BIN):$(PATH)
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-compile $(PIP_CACHE) --constraint constraints.txt

.PHONY: help demo campaign learn campaign-pbe profile test test-lowest services services-down services-test validate lint docs docs-check audit sbom tools clean

help:
	@echo 'make demo             relax a real crystal with and without the network, real PBE (GPAW) behind the VASP stand-in'
	@echo 'make demo ENGINE=emt  the same for a metal with the EMT potential: seconds, no GPAW'
	@echo 'make campaign         12 crystals with and without the network (EMT), and the report of what it saved'
	@echo 'make learn            36 alloys (EMT), from which the network tries to learn twice on the way, and the report: 7 to 10 minutes'
	@echo 'make campaign-pbe     the same for 26 hypothetical crystals with real PBE: about an hour; goes on where it was stopped'
	@echo 'make test             all tests but the slow ones'
	@echo 'make test-lowest      the same with the lowest versions that pyproject.toml allows (Python 3.11), in .venv-lowest/'
	@echo 'make services         PostgreSQL, RabbitMQ, SLURM with a GPU that is only counted, and SSH, on this machine; as root'
	@echo 'make services-down    end them, and remove what they left'
	@echo 'make services-test    the tests on them: campaigns through a cluster'
	@echo 'make validate         the slow tests: real PBE, and make campaign-pbe'
	@echo 'make lint             ruff and mypy'
	@echo 'make docs             the site, in build/docs/html; warnings are errors'
	@echo 'make docs-check       links, paths, commands and tables of the documentation, against the code'
	@echo 'make audit            known vulnerabilities of what is installed, by pip-audit: asks PyPI'
	@echo 'make sbom             what is installed, with versions and licences: build/sbom.cdx.json (CycloneDX)'
	@echo 'make clean            remove the virtual environment and the AiiDA profile of the demo'

demo: CRYSTAL_gpaw = semiconductor
demo: CRYSTAL_ionic = salt
demo: CRYSTAL_emt = metal
demo: profile $(if $(filter gpaw,$(ENGINE)),$(INSTALLED_GPAW))
	@echo '== codes, potentials and model'
	@aiida-e3relax setup --profile e3relax --engine $(ENGINE) --pre-relaxer network
	@echo '== the relaxations'
	@verdi -p e3relax run workflows/relax_workchain.py --demo $(CRYSTAL_$(ENGINE)) \
		--vasp-code vasp-standin-$(ENGINE)@localhost
	@echo; echo 'For these commands in your shell:  source .venv/bin/activate; export AIIDA_PATH=$$PWD/.aiida'

# One worker a core: each runs Python. A campaign goes on where it was when this is run again.
campaign: NAME = first
campaign: STAND_IN = emt
campaign: CRYSTALS = workflows/validation_campaign.py
campaign: CHOICES = --max-running 4 --reference all
learn: NAME = learning
learn: STAND_IN = emt
learn: CRYSTALS = benchmarks/alloys.py
learn: CHOICES = --max-running 4 --pre-relaxer network --static-run with-reference --learn every=11 least=5 wait=yes training=benchmarks/learn.yaml
campaign-pbe: NAME = pbe
campaign-pbe: STAND_IN = gpaw
campaign-pbe: CRYSTALS = benchmarks/hypothetical.py
campaign-pbe: CHOICES = --max-running 1 --reference all --kpoints-spacing 0.08 --overrides benchmarks/hypothetical.yaml
campaign-pbe: $(INSTALLED_GPAW)
campaign learn campaign-pbe: profile
	@echo '== codes, potentials and model'
	@aiida-e3relax setup --profile e3relax --engine $(STAND_IN) --pre-relaxer network
	@echo '== the campaign'
	@verdi -p e3relax daemon status > /dev/null 2>&1 || verdi -p e3relax daemon start 2
	@aiida-e3relax campaign status $(NAME) --profile e3relax > /dev/null 2>&1 || { \
		$(BIN)/python $(CRYSTALS) $(AIIDA_PATH)/crystals-$(NAME) && \
		aiida-e3relax campaign create $(NAME) --profile e3relax --from $(AIIDA_PATH)/crystals-$(NAME) --protocol fast \
			--vasp-code vasp-standin-$(STAND_IN)@localhost $(CHOICES); }
	@aiida-e3relax campaign run $(NAME) --profile e3relax --interval 2
	@verdi -p e3relax daemon stop || echo 'The daemon does not answer and may still run: verdi -p e3relax daemon stop'
	@echo '== the report'
	@aiida-e3relax campaign report $(NAME) --profile e3relax --folder reports/$(NAME)

# The daemon of a busy machine takes longer to stop than AiiDA's 2 s.
profile: $(INSTALLED)
	@verdi profile show e3relax > /dev/null 2>&1 || { \
		echo '== AiiDA profile e3relax (in .aiida/)'; \
		verdi presto --profile-name e3relax --use-zeromq && verdi -p e3relax config set daemon.timeout 20; }

# A worker more than cores, as some wait for a daemon; at most four: each holds AiiDA and PyTorch, 1.3 GB. The tests of a
# file run in one.
WORKERS := $(shell $(PYTHON) -c 'import os; print(min((os.cpu_count() or 1) + 1, 4))')
PYTEST := -m pytest --numprocesses $(WORKERS) --dist loadfile

test: $(INSTALLED)
	$(BIN)/python $(PYTEST)

# What pip installs first for it; name an index of CPU builds here, too.
TORCH_LOWEST ?= torch==2.6.0
test-lowest: LOWEST_PIP = PYTHONWARNINGS=ignore $(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile $(PIP_CACHE) --constraint constraints-lowest.txt
test-lowest: | tools
	@test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	@$(LOWEST_PIP) $(TORCH_LOWEST)
	@$(LOWEST_PIP) --editable '.[gnn,report,dev]'
	$(LOWEST)/bin/python $(PYTEST)

services:
	@$(PYTHON) tests/services/services.py up

services-down:
	@$(PYTHON) tests/services/services.py down

services-test: $(INSTALLED) services
	$(BIN)/python -m pytest -m services tests/services

validate: $(INSTALLED) $(INSTALLED_GPAW)
	$(BIN)/python -m pytest -m slow
	$(MAKE) campaign-pbe

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Read anew each time: what is made from the code has no file that would tell of a change.
docs: $(INSTALLED_DOCS)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env --doctree-dir build/docs/doctrees --builder html docs build/docs/html
	@echo 'Open build/docs/html/index.html in a browser.'

docs-check: $(INSTALLED)
	$(BIN)/python docs/check.py

# In an environment of their own, so that they are not part of what they list. What cannot be looked up is a failure; a
# build such as 2.13.0+cpu is looked up by the version before the +.
audit: $(INSTALLED) $(AUDIT)/.installed
	@mkdir -p build
	@$(BIN)/python -m pip list --disable-pip-version-check --format=freeze --exclude-editable | sed 's/+.*//' > build/installed.txt
	$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement build/installed.txt

sbom: $(INSTALLED) $(AUDIT)/.installed
	@mkdir -p build
	$(AUDIT)/bin/cyclonedx-py environment --output-reproducible --output-file build/sbom.cdx.json $(BIN)/python
	@echo 'Written: build/sbom.cdx.json'

$(AUDIT)/.installed: constraints.txt | tools
	@test -x $(AUDIT)/bin/python || $(PYTHON) -m venv $(AUDIT)
	@PYTHONWARNINGS=ignore $(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_CACHE) \
		--constraint constraints.txt pip-audit cyclonedx-bom
	@touch $@

clean:
	rm -rf $(VENV) $(LOWEST) $(AUDIT) .aiida reports build/docs

tools:
	@for tool in git make g++; do command -v $$tool > /dev/null || { echo "$$tool is missing: install it (Debian: apt-get install git make g++)"; exit 1; }; done
	@command -v $(PYTHON) > /dev/null || { echo '$(PYTHON) is missing: install Python 3.11 to 3.13, or name one with PYTHON=...'; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { echo "$$($(PYTHON) --version) is not supported: name a Python 3.11 to 3.13 with PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { echo 'this Python makes no virtual environments: install its venv package (Debian: apt-get install python3-venv)'; exit 1; }

# torch first and alone, so that the build chosen above stays when the rest is resolved.
$(INSTALLED): pyproject.toml setup.json constraints.txt | tools
	@echo '== virtual environment in .venv/ (about two minutes, once)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo '   torch' && $(PIP) $(TORCH)
	@echo '   aiida-core, aiida-vasp and the rest' && $(PIP) --editable '.[gnn,report,dev]'
	@touch $@

$(INSTALLED_GPAW): constraints.txt gpaw_siteconfig.py | $(INSTALLED)
	@echo '== GPAW, compiled with g++ (about a minute, once)'
	@GPAW_CONFIG=$(CURDIR)/gpaw_siteconfig.py $(PIP) --editable '.[gnn,dft,report,dev]' || { echo 'GPAW did not build: a C++ compiler and the Python headers are needed (Debian: apt-get install g++ python3-dev)'; exit 1; }
	@touch $@

$(INSTALLED_DOCS): pyproject.toml constraints.txt | $(INSTALLED)
	@echo '== Sphinx' && $(PIP) --editable '.[gnn,report,dev,docs]'
	@touch $@
