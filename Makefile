# One line each. `make dev` and `make test` set up everything they need by themselves.
STAGE ?= dev
PYTHON ?= python3
BIN := .venv/bin
BACKEND_ENV ?= .env
ASSEMBLY ?= cdk.out/$(STAGE)
OUTPUTS ?= cdk.out/$(STAGE).outputs.json
# A file's tests stay together: they share its stack.
PYTEST := $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile
COMPILE := $(BIN)/pip-compile --quiet --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --strip-extras

.PHONY: setup dev nightly test test-slow test-all test-313 lint templates check synth deploy deploy-assembly deploy-account destroy logs conform package bench bench-local audit lock docs getting-started recording site

setup:  ## the virtual environment, the node packages, the built client, both sides at once
	@$(MAKE) --no-print-directory -j2 .venv/.done client/dist/index.js

dev: setup  ## run the whole stack at ws://localhost:3001 (or at PORT)
	@exec $(BIN)/roomcast dev $(if $(PORT),--port $(PORT))

test: setup  ## unit, integration, infra, e2e, the client; with the branch coverage of the library
	$(PYTEST) --cov --cov-report=term-missing:skip-covered
	npm test --workspace client

test-slow: setup templates  ## what takes long: a deployment into MiniStack, Chromium, DynamoDB Local (Java), the wheel
	$(PYTEST) -m "slow or dynamodb_local" --deselect tests/infra/test_clean_templates.py
	npm run test:real --workspace client

test-all: test test-slow  ## both

test-313: .venv-3.13/.done  ## the unit and integration tests on the Python that Lambda runs
	.venv-3.13/bin/pytest --numprocesses auto --maxprocesses 4 --dist loadfile tests/unit tests/integration

lint: setup  ## format, lint, types
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && npm run check --workspace client

templates: setup .venv-checkov/.done  ## the templates under cfn-lint, cdk-nag and checkov
	$(BIN)/pytest --quiet -m "" tests/infra/test_clean_templates.py

check: lint site templates test  ## all four: run this before you hand in a change

docs: setup  ## write the tables of the documentation that come from the code
	$(BIN)/python -m stacks.reference
	$(BIN)/roomcast contract --title LandingHub --asyncapi docs/asyncapi.yaml --types client/demo/contract.d.ts

getting-started: package  ## follow docs/getting-started.md word for word in an empty home, timed: needs Chromium
	node scripts/getting_started.mjs

recording: setup  ## play docs/recording.gif, the moving picture of the README, again: needs Chromium
	RECORDING=docs/recording.gif npm run test:real --workspace client -- recording

site: setup .venv-site/.done  ## build the documentation into build/site/, without a network; a dead link fails
	@NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build

nightly: setup  ## 10,000 random examples of each state machine; it prints its seed
	@seed=$$(od -An -N4 -tu4 /dev/urandom | tr -d ' '); echo "ROOMCAST_SEED=$$seed"; \
		ROOMCAST_SEED=$$seed ROOMCAST_EXAMPLES=10000 $(BIN)/pytest -m "" -k right_in_any_interleaving tests/integration/test_state_machine.py tests/integration/test_history.py tests/integration/test_stream_machine.py

synth: setup  ## write the template of STAGE to cdk.out/STAGE: no account, no network
	npx cdk synth --quiet -c stage=$(STAGE) --output cdk.out/$(STAGE)
	@echo "the template: $$(ls cdk.out/$(STAGE)/*.template.json)"

deploy: setup  ## check the account, synthesize and deploy STAGE, then fill the .env file; YES=1 asks nothing
	$(BIN)/roomcast preflight --stage $(STAGE)
	@$(MAKE) --no-print-directory synth deploy-assembly
	$(BIN)/roomcast env --stage $(STAGE) --outputs $(OUTPUTS) --backend $(BACKEND_ENV)

deploy-assembly: setup  ## deploy ASSEMBLY as it was synthesized, say by another job; asks where STAGE keeps data
	npx cdk diff --app $(ASSEMBLY)
	$(BIN)/roomcast approve --stage $(STAGE) --assembly $(ASSEMBLY) $(if $(YES),--yes)
	$(BIN)/roomcast unblock --stage $(STAGE) $(if $(YES),--yes)
	npx cdk deploy --app $(ASSEMBLY) --import-existing-resources --require-approval never \
		$(if $(YES),--ci --progress events) --outputs-file $(OUTPUTS)

deploy-account: setup  ## deploy what an account has once for each region: API Gateway's log role, a budget
	npx cdk deploy -c stage=account --output cdk.out/account --require-approval $(if $(YES),never,any-change)

destroy: setup  ## delete STAGE from the AWS account, except for what it keeps
	npx cdk destroy -c stage=$(STAGE) --output cdk.out/$(STAGE) $(if $(YES),--force)

conform: setup  ## ask STAGE, or STAGE=local, what the stand-in is asked, and print each difference
	$(BIN)/python -m tests.conformance --stage $(STAGE)

logs: setup  ## follow the logs of STAGE
	$(BIN)/roomcast logs --stage $(STAGE) --follow

bench: setup  ## every claim, measured next to its peer
	for script in bench/*.py; do $(BIN)/python $$script --quick || exit 1; done

package: setup  ## the wheel and the npm package, in dist/
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist . && npm pack --silent --workspace client --pack-destination dist

audit: setup  ## known faults of the pinned packages; needs registries that answer this
	$(PYTHON) -m venv .venv-audit && .venv-audit/bin/pip install --quiet pip-audit==2.10.1
	.venv-audit/bin/pip-audit --requirement requirements-dev.txt --no-deps --disable-pip && npm audit

bench-local: setup  ## the local gateway compared with serverless-offline, MiniStack and Socket.IO
	$(BIN)/python bench/local_gateway.py

lock: setup  ## resolve pyproject.toml into the pinned requirements files
	$(BIN)/pip install --quiet pip-tools==7.6.2
	$(COMPILE) --extra async --extra cdk --extra jwks --output-file requirements.txt pyproject.toml
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["check"], sep="\n")' \
		| $(COMPILE) --extra async --extra cdk --extra jwks --extra dev --output-file requirements-dev.txt pyproject.toml -
	$(BIN)/python -m roomcast_cdk.wheels
	echo checkov==3.3.30 | $(COMPILE) --no-annotate --output-file requirements-checkov.txt -
	echo 'mkdocs-material==9.8.2 mkdocstrings[python]==1.0.8 ruff' | tr ' ' '\n' | $(COMPILE) --no-annotate --output-file requirements-site.txt -

# An environment that is of another folder (the checkout was moved), or whose Python has gone, is made again.
sound = $(shell test -x $(1)/bin/python && cat $(1)/.done 2>/dev/null)
$(foreach venv,.venv .venv-3.13 .venv-checkov .venv-site,$(if $(subst $(call sound,$(venv)),,$(CURDIR)),$(eval .PHONY: $(venv)/.done)))

.venv/.done: requirements-dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found: install Python 3.11 or newer"; exit 1; }
	@$(PYTHON) scripts/make_venv.py .venv requirements-dev.txt --editable

# pyenv's shims find a Python only if it is the chosen one, so its folders are asked too.
PYTHON_313 ?= $(shell for python in python3.13 "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.13.*/bin/python3.13; do "$$python" -c 1 2>/dev/null && echo "$$python" && break; done)

.venv-3.13/.done: requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON_313)" || { echo "make: no Python 3.13 here: install it, or name it with PYTHON_313=..."; exit 1; }
	@$(PYTHON_313) scripts/make_venv.py .venv-3.13 requirements-dev.txt --editable

# In an environment of its own: checkov needs another boto3 than we do.
.venv-checkov/.done: requirements-checkov.txt
	@$(PYTHON) scripts/make_venv.py .venv-checkov requirements-checkov.txt

# In an environment of its own: nothing that runs needs it.
.venv-site/.done: requirements-site.txt
	@$(PYTHON) scripts/make_venv.py .venv-site requirements-site.txt

node_modules/.done: package-lock.json package.json client/package.json
	@command -v npm >/dev/null || { echo "make: npm not found: install Node.js 22 or newer (CDK needs it)"; exit 1; }
	npm ci --include=dev --include=optional --no-global --no-audit --no-fund --loglevel=error
	touch $@

client/dist/index.js: node_modules/.done client/build.mjs $(wildcard client/tsconfig*.json client/src/*.ts)
	npm run build --silent --workspace client
	touch $@
