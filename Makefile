# What there is to run; `make` alone tells.
.DEFAULT_GOAL := help
.PHONY: help demo demo-mysql demo-mariadb test test-rights pairs drivers faults kills torture remedies check bench conformance fuzz servers

TARGET := $(or $(CARGO_TARGET_DIR),target)
# Seconds per fuzz target.
FUZZ_SECONDS ?= 60
# Tests that `make test` runs once more with the least rights: one of each suite.
LEAST := test(/^(everything_a_schema_has_arrives_as_it_was|changes_of_every_kind_come_to_the_same_rows|equal_databases_are_proven_equal_while_writers_go_on|a_sealed_fence_refuses_every_writer_until_it_is_lifted|every_type_arrives_byte_for_byte_in_(mysql|mariadb)|between_two_of_mysql_every_definition_is_the_same|(mysql_97|mysql_56|mariadb)_goes_there_and_back_and_there_again_and_nothing_is_lost_or_echoed)$$/)
# How many rounds of `make torture`, and which; an empty seed is a new one.
ROUNDS ?= 100
SEED ?=
# Which bench, and how: session, cutover, copy, follow, way-back or all, --engine postgres or mysql, and --quick.
BENCH ?= all

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: servers ## watch a live PostgreSQL 14 database move to PostgreSQL 18 under load, and the proof that nothing was lost; KEEP=1 leaves all running
	cargo build --release -p proxy -p tests --bin headgate --bin demo
	# What the tests kill the program by is in no release.
	! grep -q HEADGATE_FAILPOINTS $(TARGET)/release/headgate
	$(TARGET)/release/demo $(if $(KEEP),--keep)

demo-mysql: servers ## the same with MySQL 9.7
	cargo build --release -p proxy -p tests --bin headgate --bin demo
	$(TARGET)/release/demo --engine mysql $(if $(KEEP),--keep)

demo-mariadb: servers ## the same with MariaDB 10.11
	cargo build --release -p proxy -p tests --bin headgate --bin demo
	$(TARGET)/release/demo --engine mariadb $(if $(KEEP),--keep)

# Throwaway servers are made by the hundred: they live in memory, where there is room for them.
test: export TMPDIR := $(shell free=$$(df --output=avail /dev/shm 2>/dev/null | tail -n 1); \
    if [ "$${free:-0}" -gt 8000000 ]; then echo /dev/shm; else echo $${TMPDIR:-/tmp}; fi)
test: servers ## all tests, against real servers
	cargo build -p proxy --bin headgate
	@if cargo nextest --version >/dev/null 2>&1; then set -x; cargo nextest run --workspace --no-fail-fast && \
	HEADGATE_TEST_RIGHTS=least cargo nextest run -p migrator --no-fail-fast -E '$(LEAST)'; \
	else set -x; cargo test --workspace --exclude tests --no-fail-fast && cargo test -p tests --no-fail-fast -- --test-threads=2; fi

pairs: servers ## each case of MySQL and MariaDB with the pairs of servers that `make test` leaves out
	cargo build -p proxy --bin headgate
	cargo test -p tests --test whole ::from_m -- --ignored --test-threads=2

drivers: servers ## every driver with every encryption and account, connected while its database moves and comes back
	cargo build -p proxy --bin headgate
	HEADGATE_TEST_DRIVERS=all cargo test -p tests --test whole drivers::no_driver -- --nocapture --test-threads=1

faults: servers ## the disk full from each record of a cutover on, with and without a kill: a table of how long clients wait (needs root)
	cargo build -p proxy --bin headgate
	cargo test -p tests --test whole full_disk:: -- --ignored --nocapture --test-threads=1

kills: servers ## Headgate killed before and after every record, effect and statement of a migration's life, under a load: a table of what came of it (target/kills-*.md)
	cargo build -p proxy --bin headgate
	cargo test -p tests --test whole kills::a_kill_anywhere -- --ignored --nocapture --test-threads=1

torture: servers ## random cutovers, rollbacks and rehearsals with random kills and faults; ROUNDS=100, SEED=... repeats a run
	cargo build -p proxy --bin headgate
	HEADGATE_TORTURE_ROUNDS=$(ROUNDS) HEADGATE_TORTURE_SEED=$(SEED) \
	    cargo test -p tests --test whole torture::many_random_rounds -- --ignored --nocapture --test-threads=1

# Migrations of the tests run with all rights, or, where this is `least`, with what `headgate grants` prints. The suites of
# remedies run as an administrator what is told to one; those of rights make the accounts that they need themselves.
test-rights: servers ## the suites of migrations with only the printed rights, and without each of these in turn
	HEADGATE_TEST_RIGHTS=least cargo nextest run -p migrator --run-ignored all --no-fail-fast \
	    -E 'kind(test) and not binary(/_(remedies|rights)$$/)'; first=$$?; \
	cargo nextest run -p migrator --run-ignored all --no-fail-fast -E 'binary(/_rights$$/)' && exit $$first

remedies: ## each finding and printed statement, and the test that runs what it tells to run
	cargo test -p tests --test whole remedies:: -- --nocapture

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
