# Everything a developer runs. Needs make and Python 3.11 or newer; every target first makes .venv agree with
# requirements.lock (scripts/setup, which does nothing when it already does).

.DEFAULT_GOAL := help
.PHONY: help demo demo-tryton test thorough chaos trial bench bench-erp erp check fmt setup lock

# What the calling shell has set up for another project stays out of this one.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON

python := .venv/bin/python

# make test ARGS="tests/unit -k balance"    only some tests
# make test SERVERS=--own                   servers of our own, even where some are listening
ARGS ?=
SERVERS ?=

help: ## List the targets
	@awk -F ': *[a-z ]*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: setup ## One month of a small firm, start to finish, embedded: nothing else needed
	@.venv/bin/tieout demo

demo-tryton: setup ## The same month into a real ERP as well, Tryton, and tied out with what that says it holds
	@$(python) scripts/erp.py demo $(ARGS)

test: check ## check, then every test, on real RabbitMQ, PostgreSQL and Redis (found, or started for the run)
	@$(python) scripts/servers.py run $(SERVERS) -- $(python) -m tests $(ARGS)

thorough: setup ## What `make test` leaves out: Tryton 8.2, Tryton on PostgreSQL, Tryton prepared anew
	@$(python) scripts/servers.py run $(SERVERS) -- $(python) -m pytest -m thorough $(ARGS)

chaos: setup ## 20,000 records while servers and workers break, on servers of its own; about 10 minutes (ARGS="--seed 7")
	@$(python) -m tests.chaos $(ARGS)

trial: setup ## 5,000 time entries into Tryton over a bad network, its server and our workers ending meanwhile (ERP_TRIAL_SEED=7)
	@ERP_TRIAL_RECORDS=5000 ERP_TRIAL_DOWN_S=60 $(python) scripts/servers.py run $(SERVERS) -- \
		$(python) -m pytest -s tests/acceptance/test_into_tryton.py $(ARGS)

bench: ## Beside Dramatiq, Celery, FastStream, Taskiq and raw pika, on the same servers; about 20 minutes (ARGS=--quick: a few)
	@scripts/setup .venv-bench benchmarks/requirements.lock
	@.venv-bench/bin/python scripts/servers.py run $(SERVERS) -- .venv-bench/bin/python -m benchmarks $(ARGS)

bench-erp: setup ## Into Tryton, beside plain loops that post the same records (ARGS="--records 5000")
	@$(python) scripts/servers.py run $(SERVERS) -- $(python) -m benchmarks.into_erp $(ARGS)

erp: setup ## A real Tryton with a small firm in it, to try against (ARGS="--port 8070 --series 8.2"); Ctrl-C ends it
	@$(python) scripts/erp.py run $(ARGS)

check: setup ## ruff, mypy and the direction of imports
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .
	@$(python) -m mypy
	@.venv/bin/lint-imports --no-logo

fmt: setup ## Format the code and mend what ruff can mend
	@$(python) -m ruff check --fix --exit-zero --quiet .
	@$(python) -m ruff format .

setup: ## Make .venv agree with requirements.lock
	@scripts/setup

lock: setup ## Resolve pyproject.toml anew into both lock files (UPGRADE=--upgrade for newer versions)
	@$(python) -m uv --version >/dev/null 2>&1 || $(python) -m pip install --quiet uv
	$(python) -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --extra dev $(UPGRADE) --output-file requirements.lock pyproject.toml
	$(python) -m uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--python-version 3.11 --extra bench --constraint requirements.lock $(UPGRADE) \
		--output-file benchmarks/requirements.lock pyproject.toml
