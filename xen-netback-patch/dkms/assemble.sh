#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# DKMS's PRE_BUILD: puts netback's sources for one kernel into netback/, beside this file.
#   assemble.sh KERNEL-RELEASE KERNEL-BUILD-FOLDER
# They are taken from the installed linux-source of exactly that kernel's version: older ones would
# undo its fixes. VSNOOP_SOURCE_DIR is where linux-source-SERIES.tar.xz is (/usr/src).
set -euo pipefail
cd "$(dirname "$0")"
release=$1 headers=$2
rm -rf netback

# DKMS goes on after a PRE_BUILD that failed: so make is told the reason too, and its log shows it.
refuse() {
  echo "vsnoop-xen-netback: $*" >&2
  mkdir -p netback
  echo "\$(error vsnoop-xen-netback: $*)" >netback/Kbuild
  exit 1
}

series=$(cut -d. -f1,2 <<<"$release")
[[ -d series/$series ]] || refuse "there are no patches for kernel $release"
source=${VSNOOP_SOURCE_DIR:-/usr/src}/linux-source-$series.tar.xz
[[ -r $source ]] || refuse "$source is missing: install linux-source-$series"

wanted=$(sed -n 's/^#define LINUX_PACKAGE_ID " Debian \(.*\)"$/\1/p' \
  "$headers/include/generated/package.h" 2>/dev/null) || true
[[ $wanted ]] || refuse "kernel $release is not one of Debian's packages"
# shellcheck disable=SC2016 # dpkg-query's own variables
there=$(dpkg-query --show --showformat '${Version}' "linux-source-$series" 2>/dev/null) || true
[[ $there == "$wanted" ]] || refuse "kernel $release is of version $wanted," \
  "linux-source-$series of version ${there:-none}: install linux-source-$series=$wanted"

said=$(./build.sh --kernel "$series" --source "$source" --assemble-only --out netback 2>&1) || {
  printf '%s\n' "$said" >&2
  refuse "the sources could not be assembled: $(tail -n 1 <<<"$said")"
}
