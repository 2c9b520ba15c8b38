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
# The table of reasons, in a tree whose list has two.
mkdir -p "$dir/snoop-core" "$dir/tests/unit"
printf 'VSNOOP_REASON(%s)\n' 'none, passed, "-", "nothing"' 'one, passed, "P1", "as it is"' \
  'two, refused, "-", "not"' >"$dir/snoop-core/reasons.def"
echo 'VSNOOP_REASON_one' >"$dir/tests/unit/test_one.cc"
# expect_of_reasons TEXT ROWS...
expect_of_reasons() {
  printf '%s\n' "${@:2}" >"$dir/docs/safety.md"
  expect "$1" ""
}
one="| \`one\` | passed | P1 | as it is | - | \`test_one.cc\` |"
two="| \`two\` | refused | - | not | - | - |"
expect_of_reasons "of the reason two it says None" "$one"
expect_of_reasons "of the reason two it says ('passed', '-', 'not')" "$one" "${two/refused/passed}"
expect_of_reasons "in another order" "$two" "$one"
expect_of_reasons "test_one.cc has nothing to do with the reason two" "$one" "${two/%- |/\`test_one.cc\` |}"
expect_of_reasons "no test has to do with the reason two" "$one" "$two"
rm "$dir/docs/safety.md"

silent "# A heading

\`make run\`, [here](#a-heading), \`tools/there.cc\`, \`vsnoop live --peer-if eth1\`, \`X/FILE.cc\`"
exit $status
