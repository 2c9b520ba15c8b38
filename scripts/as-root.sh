#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Runs a command as root: as it is for root, through sudo for others.
#   scripts/as-root.sh COMMAND [ARG]...
# Without a terminal sudo may not ask for a password, so that nothing ever hangs on a prompt.
set -euo pipefail

((EUID)) || exec "$@"

if ! command -v sudo >/dev/null; then
  echo "as-root.sh: '$*' needs root: run make as root, or install sudo" >&2
  exit 1
fi
sudo=(sudo)
[[ -t 0 ]] || sudo+=(-n)

status=0
"${sudo[@]}" -- "$@" || status=$?
# What the command wrote stays the caller's, or the next build could not replace it.
if [[ -n $(find build ! -uid "$EUID" -print -quit 2>/dev/null) ]]; then
  "${sudo[@]}" -- chown -R "$(id -u):$(id -g)" build
fi
exit "$status"
