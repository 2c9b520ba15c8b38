# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The front door. Everything is built under build/; the work is done by CMake and scripts/.

SAN ?= 0
SUITES ?= $(if $(filter 1,$(SAN)),san,release clang san live sim xen)
# A plain user, and root after "su", may lack these; apt-get, ip, ethtool and nginx need them.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

.DEFAULT_GOAL := help
.PHONY: help run test bench fuzz soak mutants sim campaign xen-test xen-campaign deb build deps format lint clean

help: ## show this list
	@sed -n -e 's/^## \(.*\)/\n\1/p' -e 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | \
	  expand -t 22

## Two commands for a start; each installs the Debian packages that it needs

run: ## peer, driver domain and guest on this machine: table, picture, build/run.json (root or sudo)
	@scripts/deps.sh build run
	@scripts/build.sh release
	@scripts/as-root.sh scripts/run.py --build build/release --out build

test: ## all tests; SAN=1 only the sanitizer build, SUITES="release live" only those named
	@scripts/deps.sh build test $(filter sim xen,$(SUITES)) $(if $(filter release,$(SUITES)),deb)
	@scripts/test.sh $(SUITES)

## Build and install

build: ## install what building needs, build build/release/tools/vsnoop
	@scripts/deps.sh build
	@scripts/build.sh release

deb: ## Debian packages in build/deb/: the program, Xen's part, and Xen's netback for DKMS
	@scripts/deps.sh build deb
	@scripts/deb.sh

deps: ## install the Debian packages that the targets need, all at once
	@scripts/deps.sh build test run bench sim campaign xen deb fuzz lint

clean: ## remove build/
	@rm -rf build

## Measure

bench: ## ns per packet, build/bench.json; the flow table beside others, status 1 if a goal is missed
	@scripts/deps.sh build bench
	@scripts/build.sh release
	@build/release/tests/bench --benchmark_out=build/bench.json --benchmark_out_format=json
	@build/release/tests/bench-beside

sim: ## the same core in ns-3 beside the alternatives: table and build/sim.json, in two minutes
	@scripts/deps.sh build sim run
	@scripts/build.sh sim
	@sim/campaign/headline.py --build build/sim --out build

campaign: ## all simulated experiments: pictures, build/campaign/index.html; FULL=1 thrice as long
	@scripts/deps.sh build sim campaign
	@scripts/build.sh sim
	@snakemake --snakefile sim/campaign/Snakefile --directory build/campaign --cores $(or $(JOBS),all) \
	  --config size=$(if $(FULL),full,usual)

xen-test: ## boots real Xen in an emulator: cases, table, build/xen.json; KERNEL=6.12 on that one
	@scripts/deps.sh build xen
	@scripts/build.sh release
	@xen-netback-patch/testbed/xentest.py test $(if $(KERNEL),--kernel $(KERNEL))

xen-campaign: ## every cell on real Xen, three times; goes on where it was ended
	@scripts/deps.sh build xen
	@xen-netback-patch/testbed/xentest.py campaign $(if $(KERNEL),--kernel $(KERNEL))

## Break

fuzz: ## libFuzzer on every target for T=60 seconds each; findings in build/fuzz
	@scripts/deps.sh build fuzz
	@scripts/fuzz.sh $(or $(T),60)

soak: ## promise oracle for MINUTES=10, a million pairs with off, as root 100,000 live connections
	@scripts/deps.sh build test
	@scripts/soak.sh $(or $(SEED),1) $(or $(MINUTES),10)

mutants: ## deliberate one-line faults in snoop-core, each of which the tests must catch
	@scripts/deps.sh build test
	@tests/mutants/mutants.py

## Before a commit

format: ## reformat the C++ sources
	@scripts/deps.sh lint
	@scripts/lint.sh --fix

lint: ## check format and shell scripts; TIDY=1 prints advice of clang-tidy first
	@scripts/deps.sh build lint
	@scripts/lint.sh $(if $(filter 1,$(TIDY)),--tidy)
