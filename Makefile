# SPDX-License-Identifier: Apache-2.0
# Everything is built into out/, which is laid out like an installed prefix, so the programs run from there as well.
PREFIX ?= /usr/local
DESTDIR ?=
# 1: also containerd-shim-kata-v2, a link, so that commands and RuntimeClasses that name io.containerd.kata.v2 run here.
KATA_ALIAS ?= 0
SHIM := containerd-shim-stasis-v2
ALIAS := containerd-shim-kata-v2
OUT := $(CURDIR)/out
BUILD := $(OUT)/build

.DEFAULT_GOAL := build
.PHONY: help build setup vmm guest test unit integration test-checkpoint lint fuzz demo bench soak install uninstall \
	clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BUILD)/build.ninja: | deps-build
	@meson setup --buildtype=debugoptimized -Dtests=false $(BUILD) $(CURDIR) >$(OUT)/meson.log 2>&1 || { cat $(OUT)/meson.log; exit 1; }

deps-%:
	@mkdir -p $(OUT)
	@scripts/install-deps.sh $*

build: $(BUILD)/build.ninja ## Compile the programs into out/bin
	@ninja -C $(BUILD) --quiet >$(OUT)/ninja.log 2>&1 || { cat $(OUT)/ninja.log; exit 1; }
	@mkdir -p $(OUT)/bin
	@for f in src/cli/stasis src/shim/containerd-shim-stasis-v2; do \
		cmp -s $(BUILD)/$$f $(OUT)/bin/$${f##*/} || install -m 0755 $(BUILD)/$$f $(OUT)/bin/; done

vmm: deps-build
	@guest/build-vmm.sh $(OUT)/lib/stasis

guest: build
	@guest/build-guest.sh $(OUT)/lib/stasis $(BUILD)/src/agent/stasis-agent $(BUILD)/src/agent/stasis-stage1 \
		$(BUILD)/src/agent/criu-direct.so

setup: build vmm guest ## Build everything a sandbox needs: programs, VMM root, guest

demo: deps-demo setup ## Run Redis in a VM and show what stasis does with it
	@demo/demo.sh $(OUT)

unit: deps-test ## Unit tests, under AddressSanitizer and UndefinedBehaviorSanitizer
	@tests/unit.sh $(OUT)

lint: deps-test ## Formatting, compiler warnings of gcc and clang, clang-tidy, cppcheck, shellcheck
	@tests/lint.sh $(OUT)

fuzz: deps-test ## Run every fuzz target for a few seconds
	@tests/fuzz.sh $(OUT)

integration: deps-test setup ## Integration tests with real VMs
	@tests/integration.sh $(OUT)

test-checkpoint: deps-test setup ## Checkpoint and restore in all variants and with real programs (half an hour)
	@tests/checkpoint.sh $(OUT)

test: deps-test setup ## All of the above: what CI runs
	@tests/run.sh $(OUT)

bench: deps-bench setup ## Measure the figures of bench/README.md
	@bench/run.sh $(OUT)

soak: setup ## 100 cold boots in a row, and 100 times start, snapshot, restore, delete
	@bench/soak.sh $(OUT) boot
	@bench/soak.sh $(OUT) snapshot

install: setup ## Install below PREFIX (and DESTDIR); KATA_ALIAS=1: also as Kata's runtime
	@install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/stasis
	@install -m 0755 $(OUT)/bin/stasis $(OUT)/bin/containerd-shim-stasis-v2 $(DESTDIR)$(PREFIX)/bin/
	@scripts/install-images.sh $(OUT)/lib/stasis $(DESTDIR)$(PREFIX)/lib/stasis
	@if [ "$(KATA_ALIAS)" = 1 ]; then cd "$(DESTDIR)$(PREFIX)/bin" && \
		if [ -e $(ALIAS) ] || [ -L $(ALIAS) ] && [ "$$(readlink $(ALIAS))" != $(SHIM) ]; then \
			echo "$(DESTDIR)$(PREFIX)/bin/$(ALIAS) is somebody else's: not replaced" >&2; exit 1; fi && \
		ln -sf $(SHIM) $(ALIAS); fi
	@echo "installed into $(DESTDIR)$(PREFIX)"

uninstall: ## Remove what install made
	@rm -f $(DESTDIR)$(PREFIX)/bin/stasis $(DESTDIR)$(PREFIX)/bin/containerd-shim-stasis-v2
	@rm -rf $(DESTDIR)$(PREFIX)/lib/stasis
	@[ "$$(readlink $(DESTDIR)$(PREFIX)/bin/$(ALIAS))" != $(SHIM) ] || rm -f $(DESTDIR)$(PREFIX)/bin/$(ALIAS)

clean: ## Remove out/
	@rm -rf $(OUT)
