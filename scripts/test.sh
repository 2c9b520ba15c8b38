#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Builds and runs test suites; all of them, fastest first, unless some are named.
#   scripts/test.sh [release|clang|san|live|sim|xen]...
#     release, clang, san   unit tests, header and house checks in that build (see build.sh);
#                           release and san: promise oracle; release: model; san: fuzz corpora
#     live                  tests/live on the release build, in network namespaces: wants root
#     sim                   the ns-3 module; its decision logs are replayed by the release build
#     xen                   one boot of real Xen with the patched xen-netback, in an emulator
# The last line is "N passed, N failed[, N skipped]"; a build that fails counts as one failure.
set -euo pipefail
cd "$(dirname "$0")/.."

(($#)) || set -- release clang san live sim xen
passed=0 failed=0 skipped=0

# run_ctest BUILD-DIR SUITE CTEST-ARG...: runs it below "${wrapper[@]}" and adds up the results.
wrapper=()
run_ctest() {
  local dir=$1 xml=$PWD/$1/tests-$2.xml status=0 tests=0 good=0 skips=0
  shift 2
  rm -f "$xml"
  "${wrapper[@]}" ctest --test-dir "$dir" --output-on-failure --no-tests=error --timeout 300 \
    --output-junit "$xml" "$@" || status=$?
  if [[ -s $xml ]]; then
    tests=$(grep -c '<testcase ' "$xml" || true)
    good=$(grep -c '<testcase .* status="run"' "$xml" || true)
    # A test whose program is missing is a <skipped> to JUnit, too; only these are meant to be.
    skips=$(grep -c '<skipped message="SKIP_' "$xml" || true)
    sed -n 's/.*\(SKIPPED: .*\)/\1/p' "$xml" | sort | uniq -c
  fi
  # CTest itself may have failed, with no test to blame.
  if ((status != 0 && tests == good + skips)); then tests=$((tests + 1)); fi
  passed=$((passed + good))
  skipped=$((skipped + skips))
  failed=$((failed + tests - good - skips))
}

# A thousand passing unit tests need no line each.
faults_only() {
  grep --line-buffered -vE '^ +Start +[0-9]+: | Passed +[0-9.]+ sec$' || true
}

build() {
  scripts/build.sh "$1" && return
  echo "test.sh: build/$1 does not build; its tests were not run" >&2
  failed=$((failed + 1))
  return 1
}

# Chooses how the live tests get root's rights; says so if there is no way.
become_root() {
  if ((EUID == 0)); then
    wrapper=()
  elif command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
    wrapper=(scripts/as-root.sh)
  elif unshare --map-root-user --net --mount mount -t tmpfs tmpfs /run 2>/dev/null; then
    # A /run of its own, because ip netns writes there.
    wrapper=(unshare --map-root-user --net --mount
      sh -c 'mount -t tmpfs tmpfs /run && exec "$@"' sh)
  else
    return 1
  fi
}

live() {
  if become_root; then
    run_ctest build/release live -L live
    wrapper=()
  else
    local n
    n=$(ctest --test-dir build/release -N -L live | sed -n 's/^Total Tests: //p')
    echo "SKIPPED: $n live tests; they need root, sudo or unprivileged user namespaces"
    skipped=$((skipped + n))
  fi
}

for suite in "$@"; do
  echo "== $suite"
  case $suite in
    release | clang | san)
      if build "$suite"; then
        run_ctest "build/$suite" unit -LE live -j "${JOBS:-$(nproc)}" > >(faults_only)
        wait $!
      fi
      ;;
    live)
      if build release; then live; fi
      ;;
    sim)
      if build release && build sim; then run_ctest build/sim sim -j "${JOBS:-$(nproc)}"; fi
      ;;
    xen)
      if build release; then
        if xen-netback-patch/testbed/xentest.py short; then
          passed=$((passed + 1))
        else
          failed=$((failed + 1))
        fi
      fi
      ;;
    *)
      echo "test.sh: no suite '$suite'; there are: release clang san live sim xen" >&2
      exit 2
      ;;
  esac
done

summary="$passed passed, $failed failed"
((skipped == 0)) || summary+=", $skipped skipped"
echo "$summary"
((failed == 0))
