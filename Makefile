# Choose the Python with PYTHON=python3.12, the place of environments and data with WIDELOOP_HOME=/path.
PYTHON ?= python3
HOME_DIR := $(or $(WIDELOOP_HOME),.wideloop)
AIRFLOW := $(HOME_DIR)/venvs/airflow/bin
UV := $(HOME_DIR)/tools/bin/uv
DEMO := $(if $(EXIT),--exit) $(if $(TRIALS),--trials $(TRIALS)) $(if $(PORT),--port $(PORT))

# Unit tests run in this many processes.
WORKERS ?= $(shell nproc)

.PHONY: demo test unit rehearsal check lint format hooks controlplane bench bundle locks clean

demo:  ## run a whole cycle and show the results page; EXIT=1 ends with the cycle, TRIALS=n, PORT=n
	@$(PYTHON) operators/bootstrap.py
	@exec $(AIRFLOW)/wideloop demo $(DEMO)

test:  ## everything CI runs; ARGS=tests/e2e/test_kill.py for a part of it
	@$(PYTHON) tests/cluster/controlplane/build.py --background
	@$(PYTHON) operators/bootstrap.py --tests
	@$(PYTHON) tests/system_packages.py
	@$(MAKE) --no-print-directory check
	$(if $(ARGS),,$(AIRFLOW)/python -m pytest -n $(WORKERS) --durations=20 tests/unit)
	$(AIRFLOW)/python -m pytest --durations=20 $(or $(ARGS),tests/browser tests/cluster tests/e2e)

unit:  ## only the tests in tests/unit, in WORKERS processes; ARGS=tests/unit/tuning for a part of them
	@$(PYTHON) operators/bootstrap.py --tests
	$(AIRFLOW)/python -m pytest -n $(WORKERS) --durations=20 $(or $(ARGS),tests/unit)

rehearsal:  ## each main DAG on each published profile of DeepSeek-R1, the real engine's pods rehearsed; ARGS='-k h100-104'
	@$(PYTHON) tests/cluster/controlplane/build.py
	@$(PYTHON) operators/bootstrap.py --tests
	$(AIRFLOW)/python -m pytest --durations=20 tests/rehearsal $(ARGS)

controlplane:  ## build the Kubernetes control plane of the cluster tests, once
	@$(PYTHON) tests/cluster/controlplane/build.py

check:  ## ruff, its formatter, mypy and import-linter; changes nothing
	$(AIRFLOW)/ruff check
	$(AIRFLOW)/ruff format --check
	$(AIRFLOW)/mypy
	$(AIRFLOW)/lint-imports

lint: check

format:  ## sort imports, fix what ruff can fix, and format
	$(AIRFLOW)/ruff check --fix
	$(AIRFLOW)/ruff format

hooks:  ## run the checks at each commit (.pre-commit-config.yaml; needs pre-commit)
	pre-commit install --hook-type pre-commit --hook-type commit-msg

bench:  ## measure the product and write docs/bench.md; ONLY=placement,experts,power,parse,ask,sweep,client,preflight,cluster,demo, FRESH=1 builds the environments too, SGLANG_WHEEL=file
	@$(PYTHON) operators/bootstrap.py
	@exec $(AIRFLOW)/python -m tests.bench $(if $(ONLY),--only $(ONLY)) $(if $(FRESH),--fresh) $(if $(TRIALS),--trials $(TRIALS)) $(if $(SGLANG_WHEEL),--sglang-wheel $(SGLANG_WHEEL))

bundle:  ## pack what a GPU host without network lacks (docs/gpu.md); OUT=file, PART=gpu-host-disaggregated
	@$(PYTHON) operators/bootstrap.py --only airflow
	@$(AIRFLOW)/python -m wideloop.operators.commands.bundle make $(or $(OUT),$(or $(PART),gpu-host).txz) --uv $(UV) $(if $(PART),--part $(PART))

locks:  ## resolve the newest allowed versions of each environment into its lock file
	@$(PYTHON) operators/bootstrap.py --only airflow
	@cd manifests/environments && for name in airflow simulated benchmark; do \
	  $(abspath $(UV)) pip compile --quiet --upgrade --universal --python-version 3.11 --custom-compile-command "make locks" \
	    $$(test -e $$name.excludes && echo --excludes $$name.excludes) \
	    $$(test -e $$name.overrides && echo --override $$name.overrides) \
	    $$name.in --output-file $$name.txt || exit 1; \
	done

clean:  ## remove environments, data and results
	rm -rf $(HOME_DIR) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
