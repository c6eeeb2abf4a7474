# What there is to run; `make` alone tells.
.DEFAULT_GOAL := help
.PHONY: help demo demo-mysql demo-mariadb test test-rights faults remedies check bench conformance fuzz servers

TARGET := $(or $(CARGO_TARGET_DIR),target)
# Seconds per fuzz target.
FUZZ_SECONDS ?= 60
# Which bench, and how: session, cutover, copy, follow or all, --engine postgres or mysql, and --quick.
BENCH ?= all

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: servers ## watch a live PostgreSQL 14 database move to PostgreSQL 18 under load, and the proof that nothing was lost
	cargo build --release -p proxy --bin headgate
	$(TARGET)/release/headgate demo

demo-mysql: servers ## the same with MySQL 9.7
	cargo build --release -p proxy --bin headgate
	$(TARGET)/release/headgate demo --engine mysql

demo-mariadb: servers ## the same with MariaDB 10.11
	cargo build --release -p proxy --bin headgate
	$(TARGET)/release/headgate demo --engine mariadb

test: servers ## all tests, against real servers
	cargo build -p proxy --bin headgate
	@if cargo nextest --version >/dev/null 2>&1; then set -x; cargo nextest run --workspace --no-fail-fast; \
	else set -x; cargo test --workspace --exclude tests --no-fail-fast && cargo test -p tests --no-fail-fast -- --test-threads=2; fi

faults: servers ## the disk full from each record of a cutover on, with and without a kill: a table of how long clients wait (needs root)
	cargo build -p proxy --bin headgate
	cargo test -p tests --test whole full_disk:: -- --ignored --nocapture --test-threads=1

test-rights: servers ## whole migrations with only the printed rights, and without each of them in turn
	cargo nextest run -p migrator --test postgres_rights --test mysql_rights --run-ignored all --no-fail-fast

remedies: ## every statement that a finding tells to run, and the test that runs it
	@cargo test --quiet -p tests --test whole remedies:: -- --nocapture | grep '^|'

check: ## formatting, lints, documentation, direction of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	# The data plane compiles without the control plane, and the bytes without a runtime.
	cargo check -p proxy --lib --no-default-features
	! cargo tree --quiet -p protocol -e normal -i tokio 2>/dev/null
	! cargo tree --quiet -p migrator -i proxy 2>/dev/null

bench: servers ## side by side with its peers: throughput, hold, copy, catching up
	tests/servers/fetch bench
	cargo build --release -p proxy -p bench
	$(TARGET)/release/bench $(BENCH)

conformance: servers ## PostgreSQL's own regression suite, directly and through Headgate
	tests/servers/fetch conformance
	cargo build --release -p proxy --bin headgate
	tests/conformance/run

fuzz: ## random bytes against the parsers, a minute each (needs cargo-fuzz and a nightly toolchain)
	cd protocol && for target in $$(cargo +nightly fuzz list); do \
	    cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done

servers:
	@tests/servers/fetch
