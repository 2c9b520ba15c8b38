#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Proves that an object (or archive) can be linked where there is no C++ runtime, such as a kernel.
#   scripts/check-freestanding.sh FILE
# Fails on anything undefined but memcpy, memmove, memset and memcmp, and on whatever would need
# a runtime that is not there: constructors before main, guarded statics, thread-local storage,
# vtables and type information, exception tables.
set -euo pipefail

file=${1:?usage: check-freestanding.sh FILE}
symbols=$(nm "$file")
sections=$(readelf --section-headers --wide "$file")
[[ $symbols == *' T '* ]] || {
  echo "check-freestanding.sh: $file defines no function; nothing was checked" >&2
  exit 1
}

status=0
# fault WHAT NAMES: complains if there are any names.
fault() {
  [[ -n $2 ]] || return 0
  echo "$file: $1: $(sort -u <<<"$2" | paste -sd ' ')" >&2
  status=1
}

fault "undefined symbols" \
  "$(awk 'NF == 2 && $1 ~ /^[Uvw]$/ { print $2 }' <<<"$symbols" |
    grep -vxE 'memcpy|memmove|memset|memcmp' || true)"
fault "static guards, thread-locals, vtables or type information" \
  "$(awk '$NF ~ /^_Z(G[VR]|T[HISTVW])/ { print $NF }' <<<"$symbols")"
fault "sections that need a runtime" \
  "$(grep -oE '\.(preinit_array|init_array|fini_array|ctors|dtors|tdata|tbss|gcc_except_table)\b' \
    <<<"$sections" || true)"
exit "$status"
