# Each target with `##` is shown by `make`.
SHELL := /bin/sh
.NOTPARALLEL:
.DEFAULT_GOAL := help

CARGO ?= cargo
BED ?= dev
E2E_BESIDE := commands hosts registries shared_certs_d
CACHE := $(or $(RMO_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/registry-mirror-operator)
STATE := $(or $(RMO_STATE),/run/registry-mirror-operator-testbed)
# rustc's name for this machine; .cargo/config.toml makes cargo use it as a directory.
TRIPLE = $(shell rustc --print host-tuple)
BINARY = target/$(TRIPLE)/release/registry-mirror
TESTBED = target/$(TRIPLE)/debug/testbed

# What cargo needs beside Rust itself: a C compiler for the TLS library, protoc for the container runtime interface.
CARGO_PACKAGES := gcc libc6-dev protobuf-compiler
IMAGE_PACKAGES := buildah

# Installs those of the Debian packages $(1) that are missing.
define install
missing=$$(for package in $(1); do \
    dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null | grep -qx installed || printf '%s ' $$package; done); \
if [ -n "$$missing" ]; then \
    command -v apt-get >/dev/null || { echo "this is no Debian: install what Debian calls $$missing yourself" >&2; exit 1; }; \
    [ "$$(id -u)" = 0 ] || { echo "these packages are missing, and only root can install them: $$missing" >&2; exit 1; }; \
    echo "installing $$missing"; \
    export DEBIAN_FRONTEND=noninteractive; \
    apt-get install -y -q --no-install-recommends $$missing >/dev/null 2>&1 || \
    { apt-get update -q && apt-get install -y -q --no-install-recommends $$missing; }; \
fi
endef

.PHONY: help
help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | awk -F '\t' '{ printf "make %-15s %s\n", $$1, $$2 }'

##
## For users

.PHONY: demo
demo: testbed-build ## show the main job on a real two-node cluster on this machine (needs root); leaves it up
	$(CARGO) run -q -p e2e --bin demo

.PHONY: test
test: check test-faults test-chart test-api test-e2e test-matrix test-oracle ## every test; what .ci/run calls (needs root)

.PHONY: bench
bench: testbed-build release ## the figures, each beside a baseline: the core, one host's files, a cluster (needs root)
	$(CARGO) run -q --release -p bench --bin figures -- $(BINARY)
	$(CARGO) run -q -p e2e --bin bench

.PHONY: image
image: release ## the operator's image, build/image.tar (OCI archive), and its compressed size
	@$(call install,$(IMAGE_PACKAGES))
	@set -eu; mkdir -p build; storage=$$(mktemp -d); trap 'rm -rf "$$storage"' EXIT; \
	buildah() { command buildah --root "$$storage/root" --runroot "$$storage/run" --storage-driver vfs "$$@"; }; \
	install -D -m 0555 $(BINARY) "$$storage/registry-mirror"; \
	version=$$($(CARGO) pkgid -p registry-mirror-operator | sed 's/.*[#@]//'); \
	container=$$(buildah from scratch); \
	buildah copy --quiet "$$container" "$$storage/registry-mirror" /registry-mirror >/dev/null; \
	buildah config --user 65532:65532 --entrypoint '["/registry-mirror"]' \
	    --label org.opencontainers.image.title=registry-mirror-operator \
	    --label org.opencontainers.image.version="$$version" \
	    --label org.opencontainers.image.licenses=Apache-2.0 "$$container"; \
	rm -f build/image.tar; \
	buildah commit --quiet --rm --timestamp 0 --disable-compression=false "$$container" \
	    "oci-archive:build/image.tar:registry-mirror-operator:$$version" >/dev/null; \
	printf 'build/image.tar: %s bytes compressed (the binary: %s bytes)\n' \
	    "$$(stat -c %s build/image.tar)" "$$(stat -c %s $(BINARY))"

##
## For developers

.PHONY: deps
deps: ## install the Debian packages that are missing
	@$(call install,$(CARGO_PACKAGES))

.PHONY: check
check: deps ## format, lints, unit tests: all that needs neither root nor a cluster
	tests/recipe/check
	$(CARGO) fmt --all --check
	$(CARGO) clippy -q --workspace --all-targets -- -D warnings
	@# a workspace of its own, with a lock of its own; without libFuzzer, which wants a C++ compiler
	$(CARGO) clippy -q --locked --manifest-path tests/fuzz/targets/Cargo.toml --target-dir target --no-default-features -- -D warnings
	$(MAKE) test-unit

.PHONY: test-unit
test-unit: deps ## unit tests
	$(CARGO) test -q --workspace --exclude e2e --exclude matrix
	$(CARGO) test -q -p e2e -p matrix --lib --bins

.PHONY: test-faults
test-faults: deps ## a process that is killed at each of its effects on the host's files
	$(CARGO) test -q -p registry-mirror-host --features fault-injection --lib crash

.PHONY: test-chart
test-chart: testbed-build ## the chart: lint, rendered objects, refused values
	tests/chart/run

.PHONY: test-api
test-api: testbed-build ## CRDs, chart and controller against a real API server (needs root)
	@trap '$(TESTBED) --name api down' EXIT; set -eu; \
	$(TESTBED) --name api up --no-nodes; \
	helm=$$(ls -td $(CACHE)/helm-*/helm | head -n 1); \
	kubectl=$$(ls -td $(CACHE)/kubernetes-*/kubectl | head -n 1); \
	kubeconfig=$(STATE)/api/kubeconfig; \
	$(CARGO) build -q -p registry-mirror-operator; \
	$(TESTBED) --name api net -- env HELM=$$helm KUBECTL=$$kubectl KUBECONFIG=$$kubeconfig \
	    REGISTRY_MIRROR=$(CURDIR)/target/$(TRIPLE)/debug/registry-mirror tests/chart/api; \
	$(TESTBED) --name api net -- env \
	    REGISTRY_MIRROR_TEST_KUBECTL=$$kubectl REGISTRY_MIRROR_TEST_KUBECONFIG=$$kubeconfig \
	    $(CARGO) test -q --offline -p registry-mirror-crds -p registry-mirror-controller

.PHONY: test-e2e
test-e2e: testbed-build ## the operator on real nodes, a bed for each program of tests/e2e/tests
	$(CARGO) build -q --release -p registry-mirror-operator --features registry-mirror-host/fault-injection
	$(CARGO) test -q -p e2e --no-run
	@# Two at a time: they mostly wait. What takes the machine's inotify instances away runs alone.
	@mkdir -p build; $(CARGO) test -q -p e2e --test scenarios >build/scenarios.log 2>&1 & scenarios=$$!; \
	trap 'kill $$scenarios' INT TERM; failed=0; \
	$(CARGO) test -q -p e2e --no-fail-fast $(E2E_BESIDE:%=--test %) || failed=1; \
	wait $$scenarios || failed=1; cat build/scenarios.log; \
	$(CARGO) test -q -p e2e --test no_inotify || failed=1; exit $$failed

.PHONY: test-matrix
test-matrix: testbed-build ## containerd releases with kinds of configuration; MATRIX=all for every pair
	$(CARGO) run -q -p testbed -- build --all-containerds
	$(CARGO) test -p matrix --test matrix

.PHONY: test-oracle
test-oracle: deps ## rendered hosts.toml files, read by the parser code of seven containerd releases (needs Go)
	REGISTRY_MIRROR_ORACLE=1 $(CARGO) test -q -p registry-mirror-core --test hosts_toml --test certificates -- oracle go

.PHONY: test-nodes
test-nodes: testbed-build ## the restart and the guard on real nodes, killed at every point (needs root; takes long)
	$(CARGO) run -q -p testbed -- build --all-containerds
	$(CARGO) test -p registry-mirror-host --features fault-injection --test on_nodes -- --ignored --test-threads=1
	$(CARGO) test -p registry-mirror-agent --test on_nodes -- --ignored --test-threads=1

# Not part of `make test`: K3s takes ten minutes to build, once.
.PHONY: test-distributions
test-distributions: testbed-build ## the operator on a real K3s, by helm on its own API server (needs root)
	$(CARGO) test -q -p e2e --test k3s

.PHONY: crds
crds: deps ## write crds/*.yaml from the types
	$(CARGO) run -q -p registry-mirror-crds --example crdgen crds

.PHONY: chart
chart: crds ## copy the CRDs into the chart
	@# helm show crds puts nothing between them.
	for crd in crds/*.yaml; do { echo ---; cat $$crd; } >charts/registry-mirror-operator/$$crd; done

.PHONY: release
release: deps ## the static binary, optimised for size
	$(CARGO) build --release -p registry-mirror-operator

# Not part of `make test`: the instrumented build takes minutes. What it kept is replayed by `make test-unit`.
.PHONY: fuzz
fuzz: deps ## fuzz the parsers and the patcher: RUNS executions (default 10,000,000) of FUZZ (default each target)
	@$(call install,g++)
	@CACHE=$(CACHE) CARGO=$(CARGO) tests/fuzz/run fuzz $(FUZZ)

# Not part of `make test`: cargo-deny takes minutes to build, and the advisories come from the network.
CARGO_DENY := 0.20.2
DENY := $(CACHE)/cargo-deny/bin/cargo-deny
.PHONY: deny
deny: ## licences, sources and advisories of all dependencies (builds cargo-deny into the cache once)
	@$(DENY) --version 2>/dev/null | grep -q $(CARGO_DENY) || \
	    (cd / && $(CARGO) install -q --locked cargo-deny --version $(CARGO_DENY) --root $(CACHE)/cargo-deny)
	$(DENY) check --hide-inclusion-graph licenses bans sources
	$(DENY) check advisories

.PHONY: testbed-build
testbed-build: deps
	@$(CARGO) build -q -p testbed
	@$(TESTBED) install
	@$(TESTBED) build

.PHONY: testbed-up
testbed-up: testbed-build ## a two-node cluster on this machine (needs root); BED=name for a second one
	@$(TESTBED) --name $(BED) up

.PHONY: testbed-status
testbed-status: ## what runs there
	@$(TESTBED) --name $(BED) status

.PHONY: testbed-down
testbed-down: ## take it down
	@$(TESTBED) --name $(BED) down
