# Everything runs from .venv, made here from the locked versions in requirements/.
#   make demo PORT=9999   another port
#   make bench LINES=100000   a quick look
#   make bench PAGE=docs/performance.md   and write the table of that page
#   make fuzz SECONDS=3600   an hour each
#   make test PYTHON=python3.13   another Python, after `make clean`

PYTHON = python3
PYTHONS = /usr/bin/python3 python3.14 python3.13
PORT = 9871
LINES = 1000000
SECONDS = 600
SEED = 1
MINUTES = 30
COUNT = 10
FINDS = .
RECORDING = tests/data/qemu-7.2-log-nonconverging.log

VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
# pip-tools works on pip's inside, and what audits is not to be audited with it: places of their own.
LOCK_VENV = .venv-lock
PIP_TOOLS = pip-tools==7.6.2
AUDIT_VENV = .venv-audit
PIP_AUDIT = pip-audit==2.10.1
# As in pyproject.toml.
ATHERIS_IS_FOR = python_version < "3.14" and platform_machine == "x86_64" and sys_platform == "linux"
# Hashes come from the one index only, not from what a machine's pip also looks at. No host is written down.
PIP_COMPILE = env -u PIP_EXTRA_INDEX_URL -u PIP_FIND_LINKS PIP_CONFIG_FILE=/dev/null CUSTOM_COMPILE_COMMAND='make lock' \
	$(LOCK_VENV)/bin/pip-compile --quiet --no-config --upgrade --resolver=backtracking --generate-hashes --allow-unsafe \
	--strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.DEFAULT_GOAL = help
.DELETE_ON_ERROR:
.NOTPARALLEL:
# Every target with a description below is a name of work, not of a file.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' Makefile)

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.run ## replay a shipped recording: its report, and its metrics on 127.0.0.1:PORT until interrupted
	$(BIN)/qemu-migration-exporter replay $(RECORDING) --web.listen-address=127.0.0.1:$(PORT)

# pytest comes last, so that its summary is what one sees; the core's coverage speaks up only when it is not whole.
test: lint types contracts ## run every check: lint, types, import contracts, tests, coverage
	$(BIN)/python -m pytest --cov --cov-report=term
	@$(BIN)/coverage report --include='exporter/qemu_migration_exporter/core/*' --fail-under=100 --format=total >$(VENV)/core-coverage \
		|| { echo 'Not every branch of the core is tested:'; \
		$(BIN)/coverage report --include='exporter/qemu_migration_exporter/core/*' --fail-under=100; }

pythons: $(VENV)/.test ## run what depends on the interpreter on Debian's Python and the newest: PYTHONS='python3.12 …'
	.ci/pythons $(PYTHONS)

lint: $(VENV)/.test ## check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.test ## check the types
	$(BIN)/mypy

contracts: $(VENV)/.test ## check who imports whom
	$(BIN)/lint-imports

format: $(VENV)/.test ## format the code, and mend what the linter can mend safely
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: $(VENV)/.test ## measure speed, memory and lateness beside mtail; a quarter of an hour, on a quiet machine
	$(BIN)/python -m tests.bench $(LINES) $(PAGE)

fuzz: $(VENV)/.test ## fuzz formats and state machine, SECONDS each; what is found is written to FINDS
	$(BIN)/python -m tests.fuzz formats --seconds=$(SECONDS) --keep=$(FINDS)
	$(BIN)/python -m tests.fuzz machine --seconds=$(SECONDS) --keep=$(FINDS)

.PHONY: mutants
mutants: $(VENV)/.test ## put COUNT small faults into each module of a list, and print those that no test finds
	$(BIN)/python -m tests.mutation $(COUNT) $(SEED)

.PHONY: chaos
chaos: $(VENV)/.test ## kill, rotate, truncate and refuse at random for MINUTES: make chaos SEED=7 MINUTES=30
	$(BIN)/python -m tests.chaos $(SEED) $(MINUTES)

stuck: $(VENV)/.test ## follow the advice on COUNT real migrations that are stuck: make stuck COUNT=12 SEED=7
	$(BIN)/python -m tests.e2e.stuck_qemus $(COUNT) $(SEED)

usdt: $(VENV)/.test ## run the shipped bpftrace probe on a QEMU that has USDT, as root: make usdt QEMU=/path/to/it
	QEMU='$(QEMU)' $(BIN)/python -m pytest tests/e2e/usdt.py

overhead: $(VENV)/.test ## measure what tracing costs; QEMU=/path/to/it, as root, for bpftrace on one that has USDT
	$(if $(QEMU),QEMU='$(QEMU)' )$(BIN)/python -m tests.bench.overhead

golden: $(VENV)/.test ## renew the golden files; review their diff
	$(BIN)/python -m pytest --update-golden

packages: $(VENV)/.test ## build the Debian and RPM packages into dist/; needs debhelper and rpm
	deploy/packages/build dist

dashboards: $(VENV)/.run ## write Grafana's dashboards anew from their source in grafana/
	$(BIN)/python -m grafana

reference: $(VENV)/.run ## write the references of metrics and attributes, and the diagrams, from their sources
	$(BIN)/python -m tools.metrics_reference >docs/metrics.md
	$(BIN)/python -m tools.attributes_reference >docs/attributes.md
	$(BIN)/python -m tools.state_diagram
	$(BIN)/python -m tools.verdict_picture

renders: $(VENV)/.test ## draw dashboards and traces with their frontends: make renders GRAFANA=/path/to/public JAEGER=/path/to/build
	$(BIN)/python -m tests.renders $(if $(GRAFANA),--grafana='$(GRAFANA)') $(if $(JAEGER),--jaeger='$(JAEGER)')

mixin: $(VENV)/.run ## write rules and dashboards for grafana.com and for mixins into build/mixin
	$(BIN)/python -m grafana export build/mixin

libvirt: $(VENV)/.test ## migrate between two real libvirt hosts, as root, and watch the alerts; ten minutes of a core
	$(BIN)/python -m pytest -s tests/e2e/libvirt/scenes.py

booted: $(VENV)/.test ## boot a Debian 12 with a stuck guest, as root, and follow the README there; half an hour
	$(BIN)/python -m pytest -s tests/e2e/booted.py

audit: $(AUDIT_VENV)/.made ## ask osv.dev for known vulnerabilities of the locked versions; needs the network
	$(AUDIT_VENV)/bin/pip-audit --strict --progress-spinner=off --disable-pip --require-hashes --vulnerability-service=osv \
		$(AUDIT_FLAGS) --requirement=requirements/run.txt --requirement=requirements/test.txt

lock: $(LOCK_VENV)/.made ## renew the locked versions
	$(PIP_COMPILE) --all-build-deps --output-file=requirements/run.txt pyproject.toml
	$(PIP_COMPILE) --extra=test --constraint=requirements/run.txt --output-file=requirements/test.txt pyproject.toml
	@# pip-compile leaves out where a requirement of an extra applies.
	sed -i '/^atheris==/s/ \\$$/ ; $(ATHERIS_IS_FOR) \\/' requirements/test.txt

clean: ## remove all that was made here
	rm -rf $(VENV) $(VENV)-3.* $(LOCK_VENV) $(AUDIT_VENV) build dist *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache
	find exporter grafana tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: each stands for a step done, and is older than what the step depends on when it has to be done again.

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo '$(PYTHON) must be Python 3.11 or later; name another: make PYTHON=python3.13' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo '$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# Editable: the code that runs is the code here.
$(VENV)/.run: requirements/run.txt pyproject.toml exporter/qemu_migration_exporter/__init__.py $(VENV)/.made
	$(PIP) install --no-deps --require-hashes --requirement requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.run
	$(PIP) install --no-deps --require-hashes --requirement requirements/test.txt
	$(PIP) check
	@touch $@

$(LOCK_VENV)/.made: Makefile
	$(PYTHON) -m venv --clear $(LOCK_VENV)
	$(LOCK_VENV)/bin/python -m pip --disable-pip-version-check --quiet install '$(PIP_TOOLS)'
	@touch $@

$(AUDIT_VENV)/.made: Makefile
	$(PYTHON) -m venv --clear $(AUDIT_VENV)
	$(AUDIT_VENV)/bin/python -m pip --disable-pip-version-check --quiet install '$(PIP_AUDIT)'
	@touch $@
