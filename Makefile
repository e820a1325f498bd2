# What floe's users and developers run. Each target gets what it needs by itself (scripts/setup).

CARGO ?= cargo

.PHONY: help setup vm build demo test test-long bench lint

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

setup: ## install what building, running and testing need
	@scripts/setup

# The binary that is used is linked whole: each start executes it several times, and the dynamic loader would be most of
# that (docs/decisions/0010-the-start-path.md). Flags for the target alone need the target named; build scripts and
# procedural macros keep their own.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
STATIC = -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs

build: setup ## build the floe binary (target/release/floe)
	FLOE_COMMIT="$(COMMIT)" RUSTFLAGS="$(RUSTFLAGS) $(STATIC)" $(CARGO) build --release --locked --package floe --target $(HOST)
	@mkdir -p target/release
	@install -m 755 target/$(HOST)/release/floe target/release/floe.new
	@mv target/release/floe.new target/release/floe

# What `floe --version` names; empty outside of a checkout.
COMMIT = $(shell git describe --always --dirty --abbrev=12 2>/dev/null)

demo: build ## a Redis server frozen into one file, gone, and back with every key
	@scripts/demo

vm: setup ## build the guest of the tests that need another kernel
	@tests/vm/image

test: vm ## every test but the long ones
	$(CARGO) test --workspace --locked

test-long: vm ## the tests that take longer
	$(CARGO) test --workspace --locked -- --ignored long_

bench: build ## floe beside crun, runc and podman, as ratios of one run
	$(CARGO) build --release --locked --package floe-test-programs
	@scripts/bench-start
	@scripts/bench

lint: setup ## format, clippy, documentation, scripts
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --workspace --no-deps --locked --quiet
	shellcheck scripts/setup scripts/demo scripts/bundle-busybox scripts/bundle-redis .ci/run
	shellcheck -x tests/vm/image tests/vm/init tests/vm/guest tests/vm/jobs/*
