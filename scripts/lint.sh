#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Checks the format of the C++ sources and the shell scripts.
#   scripts/lint.sh [--fix | --tidy]     --fix: reformat instead; --tidy: clang-tidy's advice first
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t sources < <(find flowtable snoop-core tools tests sim xen-netback-patch/testbed \
  -name '*.cc' -o -name '*.h' | sort)
mapfile -t shells < <(grep -rlE '^#!.*\b(ba)?sh$' scripts tests .ci sim packaging xen-netback-patch | sort)

case ${1:-} in
  --fix) exec clang-format -i "${sources[@]}" ;;
  --tidy)
    scripts/build.sh clang
    run-clang-tidy -quiet -p build/clang "$PWD/(flowtable|snoop-core|tools|tests)/" 2>/dev/null
    ;;
esac
clang-format --dry-run -Werror "${sources[@]}"
shellcheck --severity=warning "${shells[@]}"
echo "lint: ${#sources[@]} sources and ${#shells[@]} shell scripts are clean"
