# bdd_tf: `make` lists the targets. Each one that needs Python makes .venv once and reuses it.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
PY := $(VENV)/bin/python
BDD := $(VENV)/bin/bdd
READY := $(VENV)/.ready

DATASET ?= cifake
SPLIT ?= test
# Messages name the options that the recipes take, `DATA_DIR=` instead of `--data-dir` (bdd_tf/console.py).
export BDD_MAKE := 1

# One worker per core, as far as memory allows (tests/conftest.py).
PARALLEL := -n auto --dist loadfile
# Environment of make test-references.
REFERENCES ?= $(HOME)/.cache/bdd_tf/references

# Options that are given become arguments; others keep bdd's defaults.
option = $(if $($(1)),--$(2) "$($(1))")

.DEFAULT_GOAL := help

.PHONY: help setup runtime install-runtime kernels wheels demo test test-slow test-torch test-references agreement test-arm test-platforms test-sanitize test-runtimes test-browser test-web test-spark web web-serve lint docs docs-serve train evaluate evaluate-photos convert detect serve benchmark data report ablation notebooks coverage clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12)) else f"bdd_tf needs Python 3.11 or 3.12; $(PYTHON) is {v[0]}.{v[1]}. Give another one with PYTHON=.")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q -r requirements.txt
	$(PY) -m pip install -q --no-deps -e .
	@touch $@

setup: $(READY) ## make .venv with every dependency

runtime: $(READY) ## compile the delegate that runs binary operators on stock LiteRT
	@$(PY) -m bdd_tf.edge.runtime.build > /dev/null

install-runtime: $(READY) ## the library, headers, CMake package and pkg-config file for C and C++: PREFIX=/usr/local
	$(PY) -m bdd_tf.edge.runtime.install --prefix "$(or $(PREFIX),/usr/local)"

kernels: $(READY) ## compile what trains BNext several times faster than TensorFlow alone
	@$(PY) -m bdd_tf.training.native > /dev/null

wheels: $(READY) ## wheels for Linux (glibc, musl), macOS and Windows in dist/, each with its library
	$(PY) -m bdd_tf.edge.runtime.wheels

demo: runtime kernels ## everything on made-up data in a few minutes: data, training, .tflite, detection
	$(PY) -m bdd_tf.commands.demo

test: runtime kernels ## run the tests on every core [ARGS=tests/models, ARGS=-n0: in one process]
	$(PY) -m pytest $(PARALLEL) -m "not slow" $(ARGS)

test-slow: runtime kernels ## the tests that `make test` leaves out: large networks, long chains
	$(PY) -m pytest $(PARALLEL) -m slow $(ARGS)

test-torch: runtime kernels ## install torch and compare imported weights with PyTorch itself
	$(PY) -m pip install -q -e '.[torch]'
	$(PY) -m pytest $(PARALLEL) tests/pytorch $(ARGS)

test-references: $(READY) ## ViT, CLIP and ResNet50 against open_clip, timm and torchvision in an environment of their own [REFERENCES=folder, 5.5 GB]
	test -x $(REFERENCES)/bin/python || $(PYTHON) -m venv $(REFERENCES)
	$(REFERENCES)/bin/python -m pip install -q -r tools/references/requirements.txt
	BDD_REFERENCES=$(REFERENCES)/bin/python $(PY) -m pytest -s tests/references $(ARGS)

agreement: runtime ## train BNext T, S, M, L briefly in PyTorch; PyTorch, Keras, .tflite on 200 photographs (an hour and a half a seed) [NETWORKS= SEED=]
	$(PY) -m pip install -q -e '.[torch]'
	MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_MMAP_THRESHOLD_=4294967295 $(PY) -m tools.train_for_agreement --compare $(if $(SEED),--seed $(SEED)) $(NETWORKS)

test-sanitize: $(READY) ## the delegate's operators and mutated models under ASan and UBSan [CASES=]
	@$(PY) -m tools.runtime.sanitize --cases $(or $(CASES),60000) $(ARGS) || { code=$$?; test $$code = 77 || exit $$code; }

test-runtimes: runtime ## operators and larq-zoo's nets on four TFLite runtimes, against Keras (10 minutes)
	$(PY) -m tools.runtime.nets

test-arm: runtime ## the wheels on emulated 64-bit and 32-bit ARM, results equal to x86 (Debian: apt)
	@$(PY) -m tools.arm.emulate $(ARGS) || { code=$$?; test $$code = 77 || exit $$code; }

test-platforms: runtime ## the wheels for Windows and musl, under Wine and musl's loader (Debian: apt-get install wine64 musl)
	@$(PY) -m tools.platforms.check || { code=$$?; test $$code = 77 || exit $$code; }

test-browser: runtime ## the page of `bdd serve` and the report in Chromium (Debian: apt-get install chromium) [SCREENSHOT=folder]
	$(if $(SCREENSHOT),SCREENSHOT="$(SCREENSHOT)") $(PY) -m pytest tests/service/browser.py tests/edge/report/browser.py -rs $(ARGS)

web: runtime ## the npm package and the page that runs without a service, in build/web/
	$(PY) -m tools.web.build

web-serve: web ## that page at http://127.0.0.1:8002 [PORT=8002]
	$(PY) -m tools.web.serve $(call option,PORT,port)

test-web: web ## the page without a service in Chromium, and its accessibility (axe-core by npm) [SCREENSHOTS=folder]
	$(if $(SCREENSHOTS),SCREENSHOTS="$(SCREENSHOTS)") $(PY) -m pytest tests/web/browser.py -rs $(ARGS)

test-spark: runtime ## install pyspark; `bdd score` on Spark: local, standalone cluster (Java 17; Debian: apt)
	$(PY) -m pip install -q -e '.[cluster]'
	@if ! command -v java > /dev/null && test "$$(id -u)" = 0 && command -v apt-get > /dev/null; then \
	  (apt-get update -qq && apt-get install -y -qq openjdk-17-jre-headless) > /dev/null || echo "no Java: apt-get failed"; fi
	$(PY) -m pytest tests/cluster/spark.py -rs $(ARGS)

coverage: runtime kernels ## run the tests, with line coverage
	$(PY) -m pytest $(PARALLEL) --cov --cov-report=term

lint: $(READY) ## ruff, mypy and clang-format: lint, types of what others import, format check
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/clang-format --dry-run --Werror bdd_tf/edge/runtime/src/*/*.cc bdd_tf/edge/runtime/src/*/*.h bdd_tf/edge/runtime/src/include/bdd.hpp bdd_tf/training/native/src/* tools/runtime/*.cc tools/runtime/*.h

docs: $(READY) ## build the documentation in build/site; a broken link or a missing page fails
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

docs-serve: $(READY) ## serve the documentation at http://127.0.0.1:8001, rebuilt on changes
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs serve --dev-addr 127.0.0.1:8001

train: kernels ## train: DATASET=cifake [DATA_DIR= BACKBONE= CHANNELS= RESOLUTION= EPOCHS= BATCH= INIT= FREEZE=1 RUN=]
	$(BDD) train $(if $(and $(DATA_DIR),$(filter file,$(origin DATASET))),,--dataset $(DATASET)) $(call option,DATA_DIR,data-dir) $(call option,BACKBONE,backbone) \
	  $(call option,CHANNELS,channels) $(call option,RESOLUTION,resolution) $(call option,EPOCHS,epochs) \
	  $(call option,BATCH,batch) $(call option,INIT,init) $(call option,FREEZE,freeze) $(call option,RUN,run) $(ARGS)

evaluate: $(READY) ## metrics and figures: RUN=name [SPLIT=test DATA_DIR=]
	$(BDD) evaluate $(call option,RUN,run) --split $(SPLIT) $(call option,DATA_DIR,data-dir) $(ARGS)

evaluate-photos: $(READY) ## held-out generators and cameras under every condition: RUN=name [DATA_DIR= ARGS=--quick]
	$(BDD) evaluate --protocol photos $(call option,RUN,run) $(call option,DATA_DIR,data-dir) $(ARGS)

convert: runtime ## write runs/RUN/model.tflite: RUN=name
	$(BDD) convert $(call option,RUN,run) $(ARGS)

detect: runtime ## which are fake? IMAGE=file-or-folder [MODEL=model.tflite or RUN=name]
	$(BDD) detect $(IMAGE) $(call option,MODEL,model) $(call option,RUN,run) $(ARGS)

serve: runtime ## a page to drop images on, at http://127.0.0.1:8000 [MODEL=model.tflite PORT=8000]
	$(BDD) serve $(call option,MODEL,model) $(call option,PORT,port) $(ARGS)

benchmark: runtime ## how fast, beside what one would pick instead [MODEL=model.tflite DEVICE=local|adb|ssh:user@host]
	$(BDD) benchmark $(call option,MODEL,model) $(call option,DEVICE,device) --output build/benchmark $(ARGS)

data: $(READY) ## what is in a data set: DATASET=cifake [DATA_DIR=]
	$(BDD) data check $(DATASET) $(call option,DATA_DIR,data-dir) $(ARGS)

report: $(READY) ## the paper's tables and figures from results/ and runs/, in build/report/
	$(BDD) report $(ARGS)

ablation: kernels ## eight rows of channels over seeds, resumable [EPOCHS=2 SEEDS=5,6,7 DATASET= DATA_DIR= BACKBONE=]
	$(PY) -m bdd_tf.commands.ablation $(if $(filter-out file,$(origin DATASET)),--dataset "$(DATASET)") \
	  $(call option,DATA_DIR,data-dir) $(call option,BACKBONE,backbone) $(call option,RESOLUTION,resolution) \
	  $(call option,EPOCHS,epochs) $(call option,BATCH,batch) $(call option,SEEDS,seeds) $(ARGS)

notebooks: runtime kernels ## run the notebooks and write them with their outputs [NAMES=edge]
	$(PY) notebooks/make_notebooks.py $(NAMES)

clean: ## remove .venv and derived data; runs/ stays
	rm -rf $(VENV) data/cache build *.egg-info
