#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Builds the Debian packages into build/deb/ (see packaging/debian/rules).
#   scripts/deb.sh
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/build.sh release
rm -rf build/deb
mkdir -p build/deb/package
cp -r packaging/debian build/deb/package
log=$PWD/build/deb/log
if ! (cd build/deb/package && DEB_RULES_REQUIRES_ROOT=no debian/rules binary) >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "deb.sh: the packages could not be built; see $log" >&2
  exit 1
fi
ls build/deb/*.deb
