#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# In a clone that was moved after a build, build.sh says what to do, in its own words and one line.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/scripts" "$dir/build/release"
cp "$(dirname "$0")/../../scripts/build.sh" "$dir/scripts"
echo CMAKE_HOME_DIRECTORY:INTERNAL=/elsewhere >"$dir/build/release/CMakeCache.txt"
! said=$("$dir/scripts/build.sh" release 2>&1) || said="it went well"
[[ $said == "build.sh: build/release was made when this folder was /elsewhere: run 'make clean'"* ]] || {
  echo "it says: $said"
  exit 1
}
