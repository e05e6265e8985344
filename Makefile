# fastnat: `make` prints what there is to make.
#
# make builds what runs in the kernel (bpf/) and a skeleton header of it; SwiftPM builds the rest. Programs of /usr/sbin are
# meant to be found by everybody.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules
SHELL := /bin/bash
export PATH := $(PATH):/usr/sbin:/sbin

SWIFT ?= swift
BPF_CLANG ?= /usr/bin/clang
BPFTOOL ?= bpftool
PREFIX ?= /usr/local
DESTDIR ?=
# Where container runtimes look for CNI plugins; Debian's look in /usr/lib/cni.
CNI_BIN_DIR ?= /opt/cni/bin
V ?= 0

# V=1 shows commands; otherwise there is a line for each step.
Q := $(if $(filter 1,$(V)),,@)
step = $(if $(filter 1,$(V)),@true,@printf '  %-7s %s\n' '$(1)' '$(2)')

export SWIFT BPF_CLANG

# --- what runs in the kernel -------------------------------------------------------------------------------------------

# Expanded when used: what it asks may be installed by `setup` only then.
BPF_CFLAGS = -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -Wno-unused-function \
	-Wno-sign-compare -I/usr/include/$(shell gcc -print-multiarch)
BPF_HEADERS := $(wildcard bpf/*.h bpf/*/*.h)
# datapath: programs for packets. sockets: for sockets of the host itself; apart, because a kernel may refuse them.
BPF_OBJECTS := .build/bpf/datapath.o .build/bpf/sockets.o
# The benchmark's programs, which are no part of what is loaded.
BENCH_OBJECT := .build/bpf/bench.o
SKELETONS := $(BPF_OBJECTS:.build/bpf/%.o=Sources/CDatapath/generated/%.skel.h) Sources/CBench/generated/bench.skel.h

.build/bpf/%.bpf.o: bpf/%.bpf.c $(BPF_HEADERS) Makefile | setup-build
	@mkdir -p $(@D)
	@$(BPF_CLANG) --print-targets 2>&1 | grep -qw bpf || { \
		echo '$(BPF_CLANG) cannot compile BPF: install the package clang, or name another with BPF_CLANG=' >&2; exit 1; }
	$(call step,BPF,$<)
	$(Q)$(BPF_CLANG) $(BPF_CFLAGS) -c $< -o $@

# bpftool's linker keeps the types (BTF) and leaves out DWARF, which is half of the object.
.build/bpf/datapath.o: .build/bpf/fastnat.bpf.o
.build/bpf/sockets.o: .build/bpf/sockets.bpf.o
$(BENCH_OBJECT): .build/bpf/bench/bench.bpf.o
$(BPF_OBJECTS) $(BENCH_OBJECT):
	$(call step,LINK,$@)
	$(Q)$(BPFTOOL) gen object $@ $<

$(filter Sources/CDatapath/%,$(SKELETONS)): Sources/CDatapath/generated/%.skel.h: .build/bpf/%.o
$(filter Sources/CBench/%,$(SKELETONS)): Sources/CBench/generated/%.skel.h: .build/bpf/%.o
$(SKELETONS):
	@mkdir -p $(@D)
	$(call step,GEN,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name $(basename $(basename $(@F))) > $@

.PHONY: bpf
bpf: $(SKELETONS) ## Compile what runs in the kernel

# --- what runs outside it ----------------------------------------------------------------------------------------------

RELEASE := .build/release/fastnat
DEBUG := .build/debug/fastnat

# Swift's library is linked in: the binary runs where there is no Swift. lld, because other linkers warn of a function in it.
RELEASE_FLAGS := -c release --product fastnat --static-swift-stdlib -Xswiftc -use-ld=lld

.PHONY: build debug
build: $(SKELETONS) ## Build the release binary, .build/release/fastnat
	$(call step,SWIFT,$(RELEASE))
	$(Q)$(SWIFT) build --quiet $(RELEASE_FLAGS)

debug: $(SKELETONS) ## Build the debug binary, .build/debug/fastnat
	$(call step,SWIFT,$(DEBUG))
	$(Q)$(SWIFT) build --quiet --product fastnat

# --- what it does ------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: setup-test build ## Publish a container's port in throwaway namespaces, at TC and at XDP, and call it
	$(Q)scripts/demo.sh $(RELEASE)

# Docker's proxy alone, out of its package: to install that would start a daemon, which changes the host's packet filter.
DOCKER_PROXY := .build/bench/docker-proxy
BENCH_FLAGS ?=
BENCH_FIGURES := docs/benchmarks.json
bench = PATH="$$PATH:$(CURDIR)/$(dir $(DOCKER_PROXY))" $(RELEASE) bench $(BENCH_FLAGS)

$(DOCKER_PROXY):
	@mkdir -p $(@D)
	$(Q)command -v docker-proxy >/dev/null || scripts/from-package.sh docker.io /usr/sbin/docker-proxy $@

.PHONY: bench bench-check bench-docs
bench: setup-bench build $(DOCKER_PROXY) ## Measure fastnat against iptables and others (BENCH_FLAGS=--quick: in 2 minutes)
	$(Q)$(bench) --json .build/bench/report.json --html .build/bench/report.html
	@echo 'Charts: .build/bench/report.html'

bench-check: setup-bench build $(DOCKER_PROXY) ## Measure, and fail when fastnat lost more than 10 % of its committed lead
	$(Q)$(bench) --compare $(BENCH_FIGURES)

# Of several runs, each kept under a name of its own: BENCH_REPORTS='a.json b.json c.json'.
BENCH_REPORTS ?= .build/bench/report.json
BENCH_DOCUMENTS := docs/benchmarks.md README.md
bench-docs: ## Make what `make bench` measured last the committed figures
	$(call step,WRITE,$(BENCH_FIGURES) $(BENCH_DOCUMENTS))
	$(Q)$(RELEASE) bench $(BENCH_REPORTS:%=--from %) --json $(BENCH_FIGURES) $(BENCH_DOCUMENTS:%=--document %) >/dev/null

# Programs for tests, out of their packages: podman's would have systemd start services, busybox-static's may replace another.
TEST_PROGRAMS := .build/test/podman .build/test/busybox

.build/test/podman:
	$(Q)scripts/from-package.sh podman /usr/bin/podman $@

.build/test/busybox:
	$(Q)scripts/from-package.sh busybox-static /bin/busybox $@

# Debian's Docker, unpacked and not installed: that would start a daemon, which changes the host's packet filter.
DOCKER_ENGINE := .build/docker

.PHONY: docker-engine
docker-engine:
	$(Q)scripts/docker-engine.sh $(DOCKER_ENGINE)

# Figures are those of the release binary.
.PHONY: test
test: setup-test docker-engine $(SKELETONS) $(TEST_PROGRAMS) $(if $(filter full,$(FASTNAT_DOCKER)),build) ## Run all tests (FILTER=name: some); STRICT=1: warnings and skipped tests are failures
	$(Q)scripts/test.sh

.PHONY: check
check: ## Do what CI does: lint, verify, build, demo, test
	$(Q).ci/run

.PHONY: lint
lint: setup-lint $(SKELETONS) ## Check formatting, layers, forbidden words and shell scripts
	$(Q)BPF_CFLAGS='$(BPF_CFLAGS)' scripts/lint.sh

.PHONY: format
format: setup-lint ## Format all Swift and C
	$(call step,FORMAT,Swift)
	$(Q)$(SWIFT) format --in-place --recursive --parallel Package.swift Sources Tests
	$(call step,FORMAT,C)
	$(Q)scripts/c-files.sh | xargs clang-format -i

COST := .build/scripts/datapath-cost

$(COST): scripts/datapath-cost.c $(wildcard bpf/abi/*.h) | setup-build
	@mkdir -p $(@D)
	$(call step,CC,$@)
	$(Q)gcc -O2 -Wall -Wextra -Werror -o $@ $< -lbpf

.PHONY: verify
verify: $(COST) $(BPF_OBJECTS) ## Load every program and compare what it costs with docs/datapath-cost.txt (UPDATE=1: write it)
	$(Q)scripts/verify.sh $(COST) $(if $(filter 1,$(UPDATE)),--update) $(BPF_OBJECTS)

# --- packages, installation, cleaning ------------------------------------------------------------------------------------

.PHONY: setup setup-build setup-test setup-lint
setup: ## Install the Debian packages that are missing (SETUP=no: nothing ever is)
	$(Q)scripts/setup.sh build test lint bench

setup-build setup-test setup-lint setup-bench: setup-%:
	$(Q)scripts/setup.sh $(if $(filter build,$*),,build) $*

UNITS := $(notdir $(wildcard packaging/systemd/*.service))
DOCUMENTS := configuration.md docker.md firewall.md kubernetes.md migrating-from-iptables.md podman.md

.PHONY: install uninstall
install: ## Install the release binary under PREFIX (/usr/local), in DESTDIR if given
	$(Q)test -x $(RELEASE) || $(MAKE) --no-print-directory build
	$(call step,INSTALL,$(DESTDIR)$(PREFIX)/bin/fastnat)
	$(Q)install -D -s -m 755 $(RELEASE) '$(DESTDIR)$(PREFIX)/bin/fastnat'
	$(Q)install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/doc/fastnat' LICENSE $(DOCUMENTS:%=docs/%)
	$(Q)install -d '$(DESTDIR)$(CNI_BIN_DIR)'
	$(Q)ln -sf '$(PREFIX)/bin/fastnat' '$(DESTDIR)$(CNI_BIN_DIR)/fastnat-cni'
	$(Q)install -d '$(DESTDIR)$(PREFIX)/lib/systemd/system'
	$(Q)for unit in $(UNITS); do \
		sed 's|@PREFIX@|$(PREFIX)|' packaging/systemd/$$unit > '$(DESTDIR)$(PREFIX)/lib/systemd/system/'$$unit || exit; done

uninstall: ## Remove what install installed
	$(call step,REMOVE,$(DESTDIR)$(PREFIX)/bin/fastnat)
	$(Q)rm -f '$(DESTDIR)$(PREFIX)/bin/fastnat' $(UNITS:%='$(DESTDIR)$(PREFIX)/lib/systemd/system/%') \
		$(patsubst %,'$(DESTDIR)$(PREFIX)/share/doc/fastnat/%',LICENSE $(DOCUMENTS)) '$(DESTDIR)$(CNI_BIN_DIR)/fastnat-cni'
	$(Q)rmdir '$(DESTDIR)$(PREFIX)/share/doc/fastnat' 2>/dev/null || true

.PHONY: clean
clean: ## Remove everything that was built
	$(call step,CLEAN,.build Sources/*/generated)
	$(Q)rm -rf .build Sources/*/generated

.PHONY: help
help:
	@echo 'fastnat: publishes the ports of containers, in eBPF. Targets:'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'V=1 shows the commands. build, demo and test install what they need, if it is missing: that takes root.'
