# Two commands do everything on a fresh machine: `make submission` and `make test`. `make help` lists the rest.
PYTHON ?= python3
PRESET ?= small
SEED ?= 0
DATA ?= data/$(PRESET)$(addprefix -,$(filter-out 0,$(SEED)))
RECIPE ?= pipelines/blend.toml
# A folder holds the scores on one data folder: others get its name.
NAME ?= $(basename $(notdir $(RECIPE)))$(addprefix -,$(filter-out small,$(notdir $(DATA))))
BASELINE ?= pipelines/baseline.toml
SIZES ?= 10000,100000,1000000
KIT := .venv/bin/kit

.DEFAULT_GOAL := help
.PHONY: help submission data install test check browser bench format reference figures docs clean
.DELETE_ON_ERROR:

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo "  settings: PRESET=tiny|small|medium DATA=folder RECIPE=pipelines/x.toml NAME=x SEED=n PYTHON=python3.12"

submission: .venv/installed data ## build, validate and score a submission (DATA=… RECIPE=… NAME=…)
	@$(KIT) submit $(BASELINE) --data $(DATA) --out submissions/$(notdir $(DATA))-baseline
	@$(KIT) submit $(RECIPE) --data $(DATA) --name $(NAME)
	@$(KIT) validate submissions/$(NAME) --data $(DATA)
	@$(KIT) score submissions/$(notdir $(DATA))-baseline --data $(DATA) --probe fast --probe gbm --quiet
	@$(KIT) score submissions/$(NAME) --data $(DATA) --probe fast --probe gbm --against submissions/$(notdir $(DATA))-baseline
	@$(KIT) report submissions/$(NAME) --data $(DATA) --against submissions/$(notdir $(DATA))-baseline

# A shop of our own is whole once it has a ceiling; somebody's log once it is split.
data: .venv/installed
	@if [ -e $(DATA)/truth/shop.json ] || [ ! -e $(DATA)/product_buy.parquet ]; then \
		[ -e $(DATA)/ceiling.json ] || $(KIT) data synth $(DATA) --preset $(PRESET) --seed $(SEED); \
	elif [ ! -e $(DATA)/target/split.json ]; then $(KIT) data split $(DATA); fi

install: .venv/installed-dev ## make .venv with everything, tests and checks included

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

.venv/installed-dev: .venv/installed
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

test: .venv/installed-dev ## run the tests (installs what they need)
	.venv/bin/python -m pytest -n auto

check: .venv/installed-dev ## ruff, mypy --strict on kit/, and the tests
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m pytest -n auto

browser: .venv/installed-dev ## look at the report in a headless Chromium (apt-get install chromium)
	.venv/bin/python -m pytest -m browser

bench: .venv/installed-dev ## cost curves of every stage → data/bench/cost_curves.html (SIZES=10000,100000 BENCH="options")
	.venv/bin/python tests/benchmarks/cost_curves.py --work data/bench --sizes $(SIZES) $(BENCH)

format: .venv/installed-dev ## let ruff format and sort
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

reference: .venv/installed-dev ## write docs/reference and docs/techniques.md anew from the commands, the schema and the parts
	.venv/bin/python -m kit.cli.reference docs/reference
	@$(KIT) techniques --write docs/techniques.md

docs: .venv/installed-dev ## build the site → data/site (offline; warnings and dead links are errors); then: python -m http.server -d data/site/site
	.venv/bin/python docs/pages.py data/site
	cd data/site && $(CURDIR)/.venv/bin/zensical build --clean --strict

figures: .venv/installed ## draw the figures of README and docs from their JSON (TAKE=bench.json: official scores from it)
	.venv/bin/python docs/figures.py $(if $(TAKE),--take $(TAKE))

clean: .venv/installed ## remove stored stages; data, submissions and searches stay
	@$(KIT) clean --all --yes
