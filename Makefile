# SPDX-License-Identifier: Apache-2.0 OR MIT
# A thin face of CMake: every target is a line or two that can also be typed by hand.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.PHONY: help setup configure build run test bench asan tsan format tidy coverage install clean

JOBS   ?= $(shell nproc)
PREFIX ?= /usr/local
TRACE  ?=
ARGS   ?=

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

setup: ## install what the build and the tests need and the system lacks
	@scripts/setup.sh

configure: setup
	@cmake --preset release >/dev/null

build: configure ## build release into build/
	@cmake --build build --parallel $(JOBS)

run: build ## replay the built-in workload, or TRACE=file; ARGS='...' passes options
	@build/bin/nebula-replay $(ARGS) $(TRACE)

test: build ## run every test
	@ctest --test-dir build --output-on-failure --parallel $(JOBS) --no-label-summary --no-tests=error

# bench/instructions.c prints nothing by itself: the script after the loop counts its instructions.
bench: configure ## build and run every benchmark, one after the other
	@scripts/setup.sh bench
	@cmake --preset release -DNEBULA_BENCH=ON >/dev/null
	@cmake --build build --parallel $(JOBS)
	@set -e; for source in $(filter-out bench/instructions.c,$(wildcard bench/*.c)); do build/bench/$$(basename $$source .c); done
	@scripts/count-instructions.sh

asan: setup ## every test under the address and undefined behaviour sanitizers
	@scripts/sanitize.sh asan

tsan: setup ## every test under the thread sanitizer
	@scripts/sanitize.sh tsan

format: ## put all our C files into the house's format
	@scripts/setup.sh ci
	@scripts/format.sh -i

tidy: configure ## clang-tidy over src and tools
	@scripts/setup.sh ci
	@scripts/tidy.sh build

coverage: ## line coverage of include and src by all tests
	@scripts/setup.sh coverage
	@cmake --preset coverage >/dev/null
	@cmake --build build-coverage --parallel $(JOBS)
	@ctest --test-dir build-coverage --output-on-failure --parallel $(JOBS) --no-label-summary --no-tests=error
	@gcovr --root . --filter include/ --filter src/ build-coverage

install: build ## install below PREFIX (default /usr/local); DESTDIR is honoured
	@cmake --install build --prefix $(PREFIX)

clean: ## remove every build tree
	@rm -rf build build-*/
