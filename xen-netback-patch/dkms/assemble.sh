#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Puts netback's sources for one kernel together.
#   assemble.sh KERNEL-RELEASE KERNEL-BUILD-FOLDER
#     DKMS's PRE_BUILD: into netback/, beside this file.
#   assemble.sh --check CACHE-FOLDER KERNEL-RELEASE KERNEL-BUILD-FOLDER
#     only whether that can be done, for dkms.conf; says why not, there and in the system's log. What
#     takes long is remembered below CACHE-FOLDER.
# They are taken from the installed linux-source of exactly that kernel's version: older ones would
# undo its fixes. VSNOOP_SOURCE_DIR is where linux-source-SERIES.tar.xz is (/usr/src).
set -euo pipefail
cd "$(dirname "$0")"
cache=""
if [[ $1 == --check ]]; then
  cache=$2
  shift 2
else
  rm -rf netback
fi
release=$1 headers=$2

# DKMS goes on after a PRE_BUILD that failed: so make is told the reason too, and its log shows it.
refuse() {
  if [[ $cache ]]; then
    set -- "$*; guests of kernel $release get the kernel's own netback, without vsnoop"
    echo "vsnoop-xen-netback: not built: $*" >&2
    logger -t vsnoop-xen-netback -p user.warning "not built: $*" 2>/dev/null || true
    exit 1
  fi
  echo "vsnoop-xen-netback: $*" >&2
  mkdir -p netback
  echo "\$(error vsnoop-xen-netback: $*)" >netback/Kbuild
  exit 1
}

series=$(cut -d. -f1,2 <<<"$release")
[[ -d series/$series ]] || refuse "there are no patches for kernel $release"
grep -qs '^CONFIG_XEN_NETDEV_BACKEND=m$' "$headers/.config" ||
  [[ ! -e $headers/.config ]] || refuse "kernel $release has no netback"
source=${VSNOOP_SOURCE_DIR:-/usr/src}/linux-source-$series.tar.xz
[[ -r $source ]] || refuse "$source is missing: install linux-source-$series"

wanted=$(sed -n 's/^#define LINUX_PACKAGE_ID " Debian \(.*\)"$/\1/p' \
  "$headers/include/generated/package.h" 2>/dev/null) || true
[[ $wanted ]] || refuse "kernel $release is not one of Debian's packages"
# shellcheck disable=SC2016 # dpkg-query's own variables
there=$(dpkg-query --show --showformat '${Version}' "linux-source-$series" 2>/dev/null) || true
[[ $there == "$wanted" ]] || refuse "kernel $release is of version $wanted," \
  "linux-source-$series of version ${there:-none}: install linux-source-$series=$wanted"

if [[ ! $cache ]]; then
  said=$(./build.sh --kernel "$series" --source "$source" --assemble-only --out netback 2>&1) || {
    printf '%s\n' "$said" >&2
    refuse "the sources could not be assembled: $(tail -n 1 <<<"$said")"
  }
  exit 0
fi

# The archive takes a while to look through.
mark=$cache/$series
key="$there $(stat -c '%n %s %Y' "$source") $(cat series/"$series"/* | sha256sum)"
[[ -r $mark && $(<"$mark") == "$key" ]] && exit 0
mkdir -p "$cache"
trial=$(mktemp -d "$cache/trial.XXXXXX")
trap 'rm -rf "$trial"' EXIT
said=$(./build.sh --kernel "$series" --source "$source" --assemble-only --out "$trial/netback" 2>&1) || {
  printf '%s\n' "$said" >&2
  refuse "the sources could not be assembled: $(tail -n 1 <<<"$said")"
}
printf '%s\n' "$key" >"$mark"
