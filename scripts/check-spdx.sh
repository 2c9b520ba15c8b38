#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Every source file names its licence in its first line, or in the second one after a "#!".
#   scripts/check-spdx.sh [DIR]
# Kernel parts (xen-netback-patch/) may be GPL-2.0-only. Data, documents and licence texts are let
# alone.
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

find . \( -name .git -o -path ./build -o -path ./LICENSES -o -name __pycache__ \) -prune \
  -o -type f ! -name 'LICENSE*' ! -name '*.md' ! -name '*.json' ! -name '*.pcap' \
  ! -name '*.pcapng' ! -name '*.bin' ! -name '*.svg' ! -name '*.png' ! -name '*.patch' ! -name SHA256SUMS \
  ! -name changelog ! -name copyright -print0 |
  sort -z | xargs -0 awk '
    FNR == 1 { checked = 0 }
    checked || (FNR == 1 && /^#!/) { next }
    {
      checked = 1
      kernel = FILENAME ~ /^\.\/xen-netback-patch\//
      if (/SPDX-License-Identifier: GPL-2\.0-only OR BSD-2-Clause( \*\/)?$/) next
      if (kernel && /SPDX-License-Identifier: GPL-2\.0-only( \*\/)?$/) next
      print FILENAME ": begin it with SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause"
      faults = 1
    }
    END { exit faults }'
