# Everything a developer or a first-time user runs. Set-up is done by stamp files inside the virtual
# environment, so each target does what is missing and nothing twice.
#
#   make run                                  demo: three origins of its own, balanced on port 8080
#   make run LB_BACKENDS=http://10.0.0.1:8080,http://10.0.0.2:8080
#   make run CONFIG=evenflow.yaml
#   make test | check | bench | bench-all | wheel | fuzz | audit | clean
#
# The engine is compiled once, by the profile `quick` of Cargo.toml. Wheels and benchmarks take the
# profile `release`, which needs about twice the time.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
FUZZ_SECONDS ?= 60
PYTEST_ARGS ?=
BENCH_ARGS ?=

# The first interpreter that is new enough. A name on PATH may be a version manager's empty shim, so
# each is asked.
ifndef PYTHON
PYTHON := $(shell for name in python3 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)
endif

# rustup looks for its toolchains in $HOME/.rustup. Where HOME is another one than that of the
# installation (a service account, a sandbox), they are found beside the directory of `cargo`.
ifndef RUSTUP_HOME
RUSTUP_BESIDE_CARGO := $(abspath $(dir $(shell command -v cargo 2>/dev/null))../../.rustup)
ifeq ($(wildcard $(HOME)/.rustup/settings.toml),)
ifneq ($(wildcard $(RUSTUP_BESIDE_CARGO)/settings.toml),)
export RUSTUP_HOME := $(RUSTUP_BESIDE_CARGO)
endif
endif
endif

# The interpreter the binding is compiled for: the same in every cargo call, or cargo builds twice.
export PYO3_PYTHON := $(BIN)/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Cargo uses every core, whatever make was told of jobs.
CARGO := MAKEFLAGS= cargo

RUST_SOURCES := $(shell find crates -type f \( -name '*.rs' -o -name Cargo.toml \) 2>/dev/null) Cargo.toml Cargo.lock

.PHONY: help run test check format lint types imports clippy stub unit-rust unit-python bench bench-all wheel fuzz audit reference lock clean

help:
	@sed -n 's/^#   //p' Makefile

run: $(VENV)/.engine
	@if [ -n "$${CONFIG:-}" ]; then exec "$(BIN)/evenflow" serve --config "$$CONFIG"; \
	elif [ -n "$${LB_BACKENDS:-}$${LB_CONFIG:-}" ]; then exec "$(BIN)/evenflow" serve; \
	else exec "$(BIN)/evenflow" demo; fi

test: unit-rust unit-python

unit-rust: $(VENV)/.engine
	cargo test --locked --workspace --exclude evenflow-binding --all-features

unit-python: $(VENV)/.dev $(VENV)/.engine
	"$(BIN)/pytest" $(PYTEST_ARGS)

check: format lint types imports clippy stub

format: $(VENV)/.dev
	"$(BIN)/ruff" format --check .
	cargo fmt --all --check

lint: $(VENV)/.dev
	"$(BIN)/ruff" check .

types: $(VENV)/.dev $(VENV)/.engine
	"$(BIN)/mypy"

imports: $(VENV)/.dev $(VENV)/.engine
	"$(BIN)/lint-imports"

clippy: $(VENV)/.dev
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings

# Holds src/evenflow/_engine.pyi against the compiled module.
stub: $(VENV)/.dev $(VENV)/.engine
	"$(BIN)/python" -m mypy.stubtest evenflow._engine

bench: $(VENV)/.dev $(VENV)/.release
	"$(BIN)/python" -m bench $(BENCH_ARGS)
	"$(BIN)/python" -m bench.features
	"$(BIN)/python" -m bench.streams

bench-all: $(VENV)/.dev $(VENV)/.release
	"$(BIN)/python" -m bench --only evenflow,nginx,haproxy,envoy,caddy,nginx-new $(BENCH_ARGS)

wheel: $(VENV)/.deps
	"$(BIN)/maturin" build --release --locked --out dist

fuzz:
	cargo run --locked --profile quick -p evenflow-fuzz -- --seconds $(FUZZ_SECONDS)

# Known vulnerabilities of what is pinned here, from databases on the network; needs pip-audit and
# cargo-deny. Licences alone are checked by the tests, without a network.
audit:
	.ci/audit

# The tables of docs/configuration.md, from the configuration's own models.
reference: $(VENV)/.dev $(VENV)/.engine
	"$(BIN)/python" docs/reference.py

# Pins every dependency with its hashes for all supported systems and Python versions; needs uv.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header
lock:
	$(LOCK) pyproject.toml -o requirements.txt
	$(LOCK) --group build -c requirements.txt -o requirements-build.txt
	$(LOCK) pyproject.toml --group dev -c requirements.txt -c requirements-build.txt -o requirements-dev.txt

clean:
	rm -rf "$(VENV)" target dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis bench/.work
	find src -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Without pip, which takes longer than all else: cargo needs only the interpreter, and can start.
$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "evenflow needs Python 3.11 or newer: install it, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	"$(PYTHON)" -m venv --without-pip "$(VENV)"

$(VENV)/.deps: requirements.txt requirements-build.txt | $(BIN)/python
	@"$(BIN)/python" -c 'import pip' 2>/dev/null || "$(BIN)/python" -m ensurepip --default-pip >/dev/null
	"$(BIN)/python" -m pip install --quiet --require-hashes -r requirements.txt -r requirements-build.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt | $(VENV)/.deps
	"$(BIN)/python" -m pip install --quiet --require-hashes -r requirements-dev.txt
	@touch $@

# Compiles the engine. What maturin compiles afterwards is the same and done already.
$(VENV)/.compiled: $(RUST_SOURCES) | $(BIN)/python
	@command -v cargo >/dev/null || { echo "evenflow needs a Rust toolchain to build its engine: https://rustup.rs" >&2; exit 1; }
	@echo "compiling the engine: about three minutes on two cores the first time"
	$(CARGO) build --locked --quiet --profile quick -p evenflow-binding --features extension-module
	@touch $@

# An editable installation: Python sources are used where they are, the engine is put beside them.
# A fresh machine fetches the Python packages while it compiles.
$(VENV)/.engine: $(RUST_SOURCES) pyproject.toml
	@$(MAKE) --no-print-directory --jobs=2 "$(VENV)/.compiled" "$(VENV)/.deps"
	PATH="$(BIN):$$PATH" "$(BIN)/python" -m pip install --quiet --no-deps --no-build-isolation --editable .
	@rm -f "$(VENV)/.release"
	@touch $@

# The same from the profile `release`, as wheels have it: what is measured is what is shipped.
$(VENV)/.release: $(RUST_SOURCES) pyproject.toml | $(VENV)/.deps
	@echo "compiling the engine as it is shipped: five to six minutes on two cores the first time"
	PATH="$(BIN):$$PATH" MATURIN_PEP517_ARGS="--profile release" \
		"$(BIN)/python" -m pip install --quiet --no-deps --no-build-isolation --editable .
	@rm -f "$(VENV)/.engine"
	@touch $@
