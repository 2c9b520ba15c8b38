#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# The check of documents must find each kind of untrue sentence it is there for.
#   docs_works_test.sh CHECK VSNOOP
set -euo pipefail

check=$1 vsnoop=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/tools" "$dir/docs" "$dir/tests/mutants"
printf 'run: ## x\n' >"$dir/Makefile"
printf 'MUTANTS = (\n    ("one", 1),\n)\n' >"$dir/tests/mutants/mutants.py"
touch "$dir/tools/there.cc"
printf -- '.B vsnoop live \\-\\-no\\-such\\-option\n' >"$dir/docs/vsnoop-live.8"
status=0

# expect TEXT DOCUMENT
expect() {
  printf '%s\n' "$2" >"$dir/README.md"
  local said
  said=$("$check" "$vsnoop" "$dir") || true
  [[ $said == *"$1"* ]] || {
    printf 'of "%s" it does not say "%s", but: %s\n' "$2" "$1" "$said"
    status=1
  }
}

# silent DOCUMENT
silent() {
  printf '%s\n' "$1" >"$dir/README.md"
  local said
  said=$("$check" "$vsnoop" "$dir" | grep '^README.md') || return 0
  printf 'it finds fault with what is true: %s\n' "$said"
  status=1
}

expect "there is no tools/gone.cc" "see \`tools/gone.cc\`"
expect "there is no docs/gone.md" "[this](docs/gone.md)"
expect "README.md has no heading #gone" "[this](#gone)"
expect "there is no facts/gone.md" "as in facts/gone.md, which nobody has"
expect "there is no file test_gone.cc" "\`test_gone.cc\` shows it"
expect "make has no target gone" "\`make gone\`"
expect "make has no target gone" "$(printf '    make run gone')"
expect "\`vsnoop replay\` has no option --gone" "\`vsnoop replay --gone FILE\`"
expect "vsnoop has no command gone" "\`vsnoop gone\`"
expect "2 mutants: there are 1" "and 2 deliberate faults in the core"
expect "docs/vsnoop-live.8:0: \`vsnoop live\` has no option --no-such-option" ""
expect "docs/vsnoop-live.8:0: does not say what --peer-if does" ""
silent "# A heading

\`make run\`, [here](#a-heading), \`tools/there.cc\`, \`vsnoop live --peer-if eth1\`, \`X/FILE.cc\`"
exit $status
