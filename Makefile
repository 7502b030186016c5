# Every verb sets up what it needs; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.synced
SOURCES := $(shell find app topics producer consumer monitor -name '*.py' 2>/dev/null | sort)
PYTEST := PYTHONSAFEPATH=1 $(BIN)/pytest

.DEFAULT_GOAL := help
.PHONY: bench chaos repair screenshots fuzz simulate soak help setup demo check lint types test test-docker test-outage fmt requirements kafka-jars clean

help:  ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(STAMP)  ## make .venv with fairlane, its tools and everything the tests need

demo: $(STAMP)  ## see it all once on a real Kafka, in half a minute; make demo ARGS=--keep leaves Kafka up to play with
	@$(BIN)/fairlane demo $(ARGS)

# The list of files is part of the stamp: a strict editable install does not see a new file by itself.
.PHONY: sources
$(VENV)/.sources: sources
	@mkdir -p $(VENV); echo '$(SOURCES)' | cmp -s - $@ || echo '$(SOURCES)' > $@

$(BIN)/uv: requirements-uv.txt
	@$(PYTHON) -c 'import sys; sys.exit("fairlane needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; set PYTHON=python3.12, say") if sys.version_info < (3, 11) else 0'
	@echo "Making $(VENV) with fairlane and its tools (once)"
	@$(PYTHON) -m venv $(VENV) || { echo "no venv module: install it (Debian: apt-get install python3-venv)"; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.txt
	@touch $@

$(STAMP): $(BIN)/uv $(VENV)/.sources pyproject.toml requirements-dev.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --require-hashes -r requirements-dev.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

requirements:  ## pin the dependencies again, with hashes and without addresses
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --group dev --extra embedded --extra monitor --extra statsd pyproject.toml requirements-build.in -o requirements-dev.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --constraints requirements-dev.txt --extra monitor --extra statsd pyproject.toml -o requirements.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --constraints requirements-dev.txt requirements-build.in -o requirements-build.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url requirements-uv.in -o requirements-uv.txt
	@for each in bench celery dramatiq faststream rq; do VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header $$(test $$each != bench || echo --constraints requirements-dev.txt) bench/requirements/$$each.in -o bench/requirements/$$each.txt; done

kafka-jars: $(STAMP)  ## pin the jars of the embedded Kafka again: make kafka-jars KAFKA=4.3.1
	@test -n "$(KAFKA)" || { echo "Say which: make kafka-jars KAFKA=4.3.1"; exit 2; }
	@$(BIN)/python -m fairlane.kafka.repin $(KAFKA) && $(BIN)/ruff format --quiet app/kafka/jar_pins.py

check: lint types  ## lint, format check and strict types

lint: $(STAMP)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(STAMP)
	@PYTHONSAFEPATH=1 $(BIN)/mypy -p fairlane && PYTHONSAFEPATH=1 $(BIN)/mypy tests bench

fmt: $(STAMP)  ## format and mend what can be mended
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

# Most tests wait for Kafka, so JOBS may be more than the cores; each process has a broker of its own. All tests of a file
# are run by one of them; the files begin in the order of the collection, with those that take long. What draws from a set
# draws the same each time.
test: check  ## everything that runs here: types, lint, units, properties, a real embedded Kafka; JOBS=3 runs files in three processes
	@PYTHONHASHSEED=0 $(PYTEST) $(if $(JOBS),-n $(JOBS) --dist loadfile --no-loadscope-reorder) $(ARGS)

test-docker: $(STAMP)  ## the compose file, for real: up, scale, kill a worker, trace, drain, down; needs a Docker engine
	@docker info >/dev/null 2>&1 || { echo "make test-docker needs a running Docker engine, 25 or newer: install Docker Engine or Docker Desktop and see that \`docker info\` answers (DOCKER_HOST names one elsewhere)"; exit 1; }
	@docker compose version >/dev/null 2>&1 || { echo "make test-docker needs the Compose plugin, 2.23.1 or newer: \`docker compose version\` must answer"; exit 1; }
	@$(PYTEST) -m docker $(ARGS)

test-outage: $(STAMP)  ## a broker that dies under load, and one that is away for long
	@$(PYTEST) -m outage tests/test_broker_outage.py $(ARGS)

fuzz: $(STAMP)  ## all property tests with ten times as many examples, drawn anew, and 100,000 random records on a live worker; SEED=17 draws them again
	@seed=$(or $(SEED),$$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')); echo "make fuzz SEED=$$seed plays this again"; \
	FAIRLANE_EXAMPLES=$${FAIRLANE_EXAMPLES:-10} FAIRLANE_GARBAGE=$${FAIRLANE_GARBAGE:-100000} FAIRLANE_SEED=$$seed \
	$(PYTEST) --timeout=0 --hypothesis-seed=$$seed -m "(hypothesis or fuzz) and not docker and not outage" $(ARGS)

simulate: $(STAMP)  ## the worker on virtual time, in a world for each seed, with crashes, zombies and rebalances; SEEDS=1000, or SEED=17 plays one again
	@PYTHONHASHSEED=0 PYTHONSAFEPATH=1 PYTHONPATH=tests $(BIN)/python -m simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),100))

repair: $(STAMP)  ## a thousand dead letters on a real Kafka: found, edited, tried dry, replayed at 100/s, all completed, the audit read; LETTERS=1000, RATE=100
	@FAIRLANE_REPAIR_LETTERS=$(or $(LETTERS),1000) FAIRLANE_REPAIR_RATE=$(or $(RATE),100) $(PYTEST) -q --timeout=600 tests/test_repair.py

soak: $(STAMP)  ## steady load of every kind on a real Kafka; memory, threads, files and children are sampled, and a slope fails; MINUTES=30, RATE=150
	@PYTHONSAFEPATH=1 PYTHONPATH=tests:bench $(BIN)/python -m soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(RATE),--rate $(RATE))

screenshots: $(STAMP)  ## every page of the dashboard, light and dark, into docs/screenshots; needs Chromium
	@PYTHONSAFEPATH=1 PYTHONPATH=tests $(BIN)/python -m screenshots

chaos: $(STAMP)  ## three real brokers, workers and producers in a storm of kills, freezes, cuts and refusals; MINUTES=10, SEED=17 draws it again
	@PYTHONSAFEPATH=1 PYTHONPATH=tests $(BIN)/python -m chaos --minutes $(or $(MINUTES),2) $(if $(SEED),--seed $(SEED))

bench: $(STAMP)  ## fairlane beside its peers, in one run; QUICK=1 is short and installs nothing, ONLY=noop,enqueue runs some
	@PYTHONSAFEPATH=1 $(BIN)/python bench/prepare.py $(if $(QUICK),--as-is --size quick) $(if $(ONLY),--only $(ONLY))

clean:  ## remove the environment and everything built
	@rm -rf $(VENV) build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
