# One door to everything. Each target sets up what it needs in .venv, from hash-pinned lock files.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := healer projections replay
# Extra words for the tool that a target runs: make test ARGS="-k pidfd", make lock ARGS=--upgrade
ARGS ?=
# So many tests run at once; WORKERS=0 runs them in one process.
WORKERS ?= 2

# A stamp lives inside the environment: removing the one removes the other.
CREATED := $(VENV)/.created
RUNTIME := $(VENV)/.runtime
DEVELOPMENT := $(VENV)/.development
SPARK := $(VENV)/.spark
MUTATION := $(VENV)/.mutation
AUDIT := $(VENV)/audit

# What a shell exports for its own Python must not leak into ours.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE PIP_USER PIP_TARGET PIP_PREFIX VIRTUAL_ENV
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: $(RUNTIME) ## Break a small stack for real and watch it being healed
	@$(BIN)/healer demo $(ARGS)

.PHONY: dashboard
dashboard: $(RUNTIME) ## Keep a small stack breaking, and watch it in a browser
	@$(BIN)/healer demo --dashboard $(ARGS)

.PHONY: test
test: $(DEVELOPMENT) ## Run every test, in random order
	@$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

.PHONY: check
check: lint types floors test ## Run all checks and every test

.PHONY: lint
lint: $(DEVELOPMENT) ## Check style and format
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

.PHONY: format
format: $(DEVELOPMENT) ## Put the code into its format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

.PHONY: types
types: $(DEVELOPMENT) ## Check the types, and that the public surface is as promised
	@$(BIN)/mypy

.PHONY: floors
floors: $(DEVELOPMENT) ## Check that imports point down only
	@$(BIN)/lint-imports --no-cache

.PHONY: coverage
coverage: $(DEVELOPMENT) ## Run every test, say which branches none took, and judge their share
	@$(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term-missing:skip-covered $(ARGS)
	@$(BIN)/coverage json --quiet -o - | $(BIN)/python -m tests.branches

.PHONY: bench
bench: $(DEVELOPMENT) ## Measure, and print tables with medians and ratios
	@for bench in $(or $(BENCH),$(wildcard tests/bench/bench_*.py)); do \
		$(BIN)/python "$$bench" $(ARGS) || exit; done

.PHONY: simulate
simulate: $(DEVELOPMENT) ## Two virtual hours of faults, or months of a calm machine, for each seed (ARGS="--seeds 10000", "--long", "--bugs")
	@$(BIN)/python -m tests.simulator $(ARGS)

.PHONY: fuzz-api
fuzz-api: $(DEVELOPMENT) ## Ask the API everything that its description allows (HEALER_FUZZ_EXAMPLES=2000)
	@HEALER_FUZZ_EXAMPLES=$${HEALER_FUZZ_EXAMPLES:-500} $(BIN)/python -m pytest tests/cli/test_contract.py $(ARGS)

.PHONY: soak
soak: $(DEVELOPMENT) ## Kill the healer in mid-heal, for as long as asked (ARGS="--kills 10000")
	@$(BIN)/python -m tests.soak $(ARGS)

.PHONY: powercut
powercut: $(DEVELOPMENT) ## Cut the power under the log 1,000 times; needs root (ARGS="--cuts 100")
	@$(BIN)/python -m tests.soak.powercut $(ARGS)

.PHONY: pid-reuse
pid-reuse: $(DEVELOPMENT) ## Force 10,000 pids to be reused, and count who is hit; needs root
	@$(BIN)/python -m tests.soak.pid_reuse $(ARGS)

.PHONY: fuzz
fuzz: $(DEVELOPMENT) ## 10,000 malformed requests, configurations and events (HEALER_FUZZ_EXAMPLES=2500 of each)
	@HEALER_FUZZ_EXAMPLES=$${HEALER_FUZZ_EXAMPLES:-2500} $(BIN)/python -m pytest tests/malformed $(ARGS)

.PHONY: systemd
systemd: $(DEVELOPMENT) ## Boot a small Debian, and run the packaged unit in it; needs root
	@$(BIN)/python -m pytest tests/deploy/test_systemd.py -m soak $(ARGS)

.PHONY: image
image: $(DEVELOPMENT) ## Build the packaged Dockerfile with buildah, and heal in what it makes; needs root
	@$(BIN)/python -m pytest tests/deploy/test_image.py -m soak $(ARGS)

.PHONY: burst
burst: $(DEVELOPMENT) ## Kill 500 components at once: does the budget hold? (ARGS="--components 60")
	@$(BIN)/python -m tests.soak.burst $(ARGS)

.PHONY: spark
spark: $(SPARK) ## Rebuild from a Parquet export on Apache Spark; needs Java 17
	@$(BIN)/python -m pytest tests/replay/export/test_spark.py $(ARGS)

.PHONY: mutation
mutation: $(MUTATION) ## Plant mistakes and count those that no test notices (ARGS="domain --children 2")
	@$(BIN)/python -m tests.mutation $(ARGS)

.PHONY: audit
audit: $(AUDIT)/.done ## Ask PyPI whether what is shipped has known weaknesses
	@$(AUDIT)/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.txt $(ARGS)

# The oldest supported Python resolves to the largest tree: back-ports that newer ones do without.
.PHONY: lock
lock: $(CREATED) ## Resolve the lock files anew (ARGS=--upgrade to move the pins)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo 'cannot lock: $(BIN)/python is not 3.11, the oldest supported Python' >&2; exit 1; }
	@test -x $(VENV)/lock/bin/pip-compile || { $(BIN)/python -m venv $(VENV)/lock && \
		$(VENV)/lock/bin/python -m pip install --quiet 'pip-tools>=7.5,<8'; }
	$(COMPILE) --build-deps-for editable --output-file requirements.txt pyproject.toml
	$(COMPILE) --build-deps-for editable --extra dev --constraint requirements.txt \
		--output-file requirements-dev.txt pyproject.toml
	$(COMPILE) --constraint requirements-dev.txt --output-file requirements-spark.txt \
		requirements-spark.in
	$(COMPILE) --constraint requirements-dev.txt --output-file requirements-mutation.txt \
		requirements-mutation.in
	$(COMPILE) --output-file requirements-audit.txt requirements-audit.in
COMPILE = @$(VENV)/lock/bin/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --no-annotate $(ARGS)

.PHONY: clean
clean: ## Remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .coverage coverage.xml
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'cannot set up: $(PYTHON) is not Python 3.11 or newer; name one with PYTHON=...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo 'cannot set up: $(PYTHON) has no venv; apt install python3-venv' >&2; exit 1; }
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# The locks name every distribution, so nothing is resolved here; `pip check` says if one is missing.
define install
	@echo "installing $(1)"
	@$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r $(1)
	@$(BIN)/python -m pip install --quiet --no-deps --no-index --no-build-isolation --editable .
	@$(BIN)/python -m pip check --quiet
	@touch $@
endef

$(RUNTIME): requirements.txt pyproject.toml | $(CREATED)
	$(call install,requirements.txt)

$(DEVELOPMENT): requirements-dev.txt pyproject.toml | $(CREATED)
	$(call install,requirements-dev.txt)
	@touch $(RUNTIME)

# Half a gigabyte that one test wants: a lock of its own, beside what the others need. It is built
# from source, with the setuptools that is there.
$(SPARK): requirements-spark.txt | $(DEVELOPMENT)
	@echo "installing $<"
	@$(BIN)/python -m pip install --quiet --require-hashes --no-deps --no-build-isolation -r $<
	@touch $@

# What plants mistakes brings a terminal interface and a parser: beside what the tests need.
$(MUTATION): requirements-mutation.txt | $(DEVELOPMENT)
	@echo "installing $<"
	@$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r $<
	@touch $@

# The auditor is no part of what it audits: an environment of its own.
$(AUDIT)/.done: requirements-audit.txt | $(CREATED)
	@echo "installing $<"
	@$(BIN)/python -m venv --clear $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --require-hashes --no-deps -r $<
	@touch $@
