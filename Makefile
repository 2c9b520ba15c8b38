# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The front door. Everything is built under build/; the work is done by CMake and scripts/.

SAN ?= 0
SUITES ?= $(if $(filter 1,$(SAN)),san,release clang san live)
# A plain user, and root after "su", may lack these; apt-get, ip, ethtool and nginx need them.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: help run test bench build deps format lint clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 16

run: ## peer, driver domain and guest on this machine: table, picture, build/run.json (root or sudo)
	@scripts/deps.sh build run
	@scripts/build.sh release
	@scripts/as-root.sh scripts/run.py --build build/release --out build

test: ## all tests; SAN=1 only the sanitizer build, SUITES="release live" only those named
	@scripts/deps.sh build test
	@scripts/test.sh $(SUITES)

bench: ## ns per packet; also written to build/bench.json
	@scripts/deps.sh build bench
	@scripts/build.sh release
	@build/release/tests/bench --benchmark_out=build/bench.json --benchmark_out_format=json

build: ## install what building needs, build build/release/tools/vsnoop
	@scripts/deps.sh build
	@scripts/build.sh release

deps: ## install the Debian packages for all of the above
	@scripts/deps.sh build test run bench

format: ## reformat the C++ sources
	@scripts/deps.sh lint
	@scripts/lint.sh --fix

lint: ## check format and shell scripts; TIDY=1 prints advice of clang-tidy first
	@scripts/deps.sh build lint
	@scripts/lint.sh $(if $(filter 1,$(TIDY)),--tidy)

clean: ## remove build/
	@rm -rf build
