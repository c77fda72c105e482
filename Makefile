# Every target makes what it needs (.venv) by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Two processes for each core, because many tests wait; whoever has nothing left takes tests from another.
PARALLEL := -n $(shell echo $$(($$(nproc) * 2))) --maxprocesses 8 --dist worksteal

# Files with long tests: each process of pytest would otherwise import all others, too, for a quarter of a minute.
LONG_TESTS = $(shell grep -rl --include='test_*.py' 'mark\.long' tests | grep -v '^tests/bench/')

# Each bench has processes of its own, and mostly waits: its load comes at a fixed rate.
BENCHES := -n $(shell echo $$(($$(nproc) + 1))) --maxprocesses 4 --dist worksteal

# The tests of a compiled styx: heads, bodies, connections, streams, TLS and retries, without processes.
COMPILED_TESTS := tests/rules/http tests/rules/h2 tests/rules/tls tests/net/h1 tests/net/h2 tests/net/tls tests/net/accept tests/net/balancing \
	tests/net/test_corpus.py tests/net/test_exchange.py tests/net/test_writes.py tests/admin/test_request_counters.py tests/admin/log/test_access_log.py tests/rules/log/test_usual_lines.py \
	tests/scenes/test_forwarding.py tests/scenes/test_refusal_ladder.py tests/scenes/test_uploads.py tests/scenes/test_tls.py \
	tests/scenes/test_tunnels.py tests/scenes/test_h2_streams.py tests/scenes/test_h2_lengths.py tests/scenes/test_observability.py tests/test_compilation.py

# Hundreds of processes are started by the tests: each would compile all sources anew without cached bytecode.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo docs test long check fast compiled plain bytecode test-compiled wheels image-check bench guard simulate lock format clean
.DEFAULT_GOAL := test

$(READY): pyproject.toml edge/__init__.py
	$(PYTHON) -m venv $(VENV)
ifdef LOCKED  # exactly the versions of requirements/dev.txt, by their hashes: what CI does
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
else
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,docs]'
endif
	@touch $@

demo: $(READY)  ## styx in front of a pocket hosting platform with three sites
	$(BIN)/styx demo $(ARGS)

docs: $(READY)  ## the documentation site, in build/site: begin at index.html, no server is needed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)

test: $(READY)  ## every test but the long ones; what needs a server that is not installed is skipped and named
	$(BIN)/pytest $(PARALLEL) -m "not long" $(ARGS)

long: $(READY)  ## the long ones: browsers, second rounds of simulations, benches that load a real styx; last, one by one, what measures
	$(BIN)/pytest $(PARALLEL) -m long $(LONG_TESTS) $(ARGS)
	$(BIN)/pytest $(BENCHES) -m "long and not alone" tests/bench $(ARGS)
	$(BIN)/pytest -m "long and alone" tests/bench $(ARGS)

check: $(READY)  ## lint, types, the import rules of the house, and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_layers.py
	$(BIN)/codespell README.md CHANGELOG.md SECURITY.md docs bench config deploy edge

# On a new checkout, each process of `test` would compile the sources of all tests, all of them at the same time.
bytecode: $(READY)  ## all tests imported once, so that their bytecode is cached; what cannot be imported fails
	@mkdir -p build
	$(BIN)/pytest -q --collect-only > build/collected.txt || { tail -n 60 build/collected.txt; exit 1; }

compiled: edge/compiled.sha256  ## the modules of the hot path, compiled beside their sources (a C compiler, two minutes)

edge/compiled.sha256: $(READY) hatch_build.py $(shell find edge -name '*.py')
	$(BIN)/python hatch_build.py compile

plain:  ## plain Python again: remove what `compiled` has made
	find edge -name '*.so' -delete
	rm -f edge/compiled.sha256

# What nobody has compiled is compiled for these tests only, in a minute: not optimised, and removed afterwards, so that
# nobody takes it for what `compiled` makes.
test-compiled: $(READY)  ## what `test` runs, less what starts processes, with the compiled modules
	$(MAKE) --question edge/compiled.sha256 || STYX_COMPILE_QUICKLY=1 $(BIN)/python hatch_build.py compile
	$(BIN)/pytest $(PARALLEL) -m "not long" $(COMPILED_TESTS) $(ARGS); passed=$$?; \
		$(MAKE) --question edge/compiled.sha256 || $(MAKE) plain; exit $$passed

wheels: $(READY)  ## into dist/: the source distribution, the pure wheel and the compiled one, which is tried (a C compiler, three minutes)
	rm -rf dist build/tried
	$(BIN)/python -m hatchling build -d dist
	STYX_COMPILE=1 $(BIN)/python -m hatchling build -t wheel -d dist
	$(PYTHON) -m venv build/tried
	build/tried/bin/pip install --quiet --disable-pip-version-check dist/*-cp*.whl
	build/tried/bin/styx --version | grep -F '(compiled)'

image-check: $(READY)  ## the image, built with buildah and run as an orchestrator would: root only, some minutes
	$(BIN)/python -m tests.support.image_check $(ARGS)

fast: $(READY)  ## the pure rules only, without simulations and the longest properties: a quarter of a minute
	$(BIN)/pytest -q -n $(shell nproc) --maxprocesses 8 --dist worksteal -p no:logging -p no:anyio -m "not long" \
		--ignore tests/rules/test_fleets.py --ignore tests/rules/test_lookup_floods.py \
		--ignore tests/rules/test_framing_properties.py tests/rules $(ARGS)

bench: $(READY)  ## measurements beside other proxies, all of them or ARGS=NAME: bench/README.md
	$(BIN)/python -m bench $(ARGS)

guard: $(READY)  ## CPU and instructions per request beside an earlier version (needs valgrind, wrk, nginx)
	$(BIN)/python -m bench guard $(ARGS)

simulate: $(READY)  ## fleets of containers on a virtual clock, before the decisions of production
	$(BIN)/python -m tests.support.fleets $(ARGS)

lock: $(READY)  ## requirements/*.txt: the newest versions that pyproject.toml allows, with hashes (needs the extra `release`)
	for set in runtime:acme,redis,top,traces build:compile,redis,top dev:dev,docs,release,top; do \
		$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
			--no-header $$(echo $${set#*:} | sed 's/[^,]*/--extra &/g; s/,/ /g') --output-file requirements/$${set%%:*}.txt; \
	done

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: plain
	rm -rf $(VENV) build dist styx-state
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
