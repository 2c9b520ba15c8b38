#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# build.sh of the kernel module deletes nothing that it has not made.
set -euo pipefail
build=$(cd "$(dirname "$0")/../../xen-netback-patch" && pwd)/build.sh
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
status=0
# Sources that nobody made a series for: every run ends there at the latest.
mkdir -p "$dir/source/drivers/net/xen-netback"
touch "$dir/source/drivers/net/xen-netback/netback.c"

# expect TEXT OUT
expect() {
  local said
  ! said=$("$build" --kernel 6.1 --source "$dir/source" --assemble-only --out "$2" 2>&1) ||
    said="it went well"
  [[ $said == *"$1"* ]] || {
    printf -- '--out %s: expected "%s", got: %s\n' "$2" "$1" "$said"
    status=1
  }
}

other="not those that series/6.1 was made for"
mkdir "$dir/home" "$dir/empty"
touch "$dir/home/letter" "$dir/home/.hidden"
expect "name an empty folder, or a new one" "$dir/home"
[[ -e $dir/home/letter ]] || { echo "a letter is gone" && status=1; }
rm "$dir/home/letter"
expect "name an empty folder, or a new one" "$dir/home"
expect "is not a folder" "$dir/home/.hidden"
expect "$other" "$dir/empty"
expect "$other" "$dir/new"
mkdir "$dir/earlier"
touch "$dir/earlier/.made-by-vsnoop-build" "$dir/earlier/netback.c"
expect "$other" "$dir/earlier"
exit $status
