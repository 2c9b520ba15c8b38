#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# check-freestanding.sh must find each fault it is there for.
#   freestanding_check_test.sh COMPILER FLAG...     compiler and flags of snoop-core
set -euo pipefail

check=$(dirname "$0")/../../scripts/check-freestanding.sh
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
status=0

# verdict COMPILE-COMMAND...: compiles standard input, prints what the check says.
verdict() {
  "$@" -x c++ -c -o "$dir/object.o" - || {
    echo "does not compile"
    return
  }
  "$check" "$dir/object.o" 2>&1 && echo "clean"
}

# expect TEXT DESCRIPTION CODE COMPILE-COMMAND...
expect() {
  local text=$1 what=$2 code=$3 said
  shift 3
  said=$(verdict "$@" <<<"$code") || true
  if [[ $said != *"$text"* ]]; then
    printf '%s: expected "%s", got: %s\n' "$what" "$text" "$said"
    status=1
  fi
}

expect clean "plain code and the four functions that every kernel has" '
  using Size = __SIZE_TYPE__;
  extern "C" {
  void* memcpy(void*, const void*, Size);
  void* memmove(void*, const void*, Size);
  void* memset(void*, int, Size);
  int memcmp(const void*, const void*, Size);
  }
  int f(char* a, const char* b, Size n) {
    memcpy(a, b, n), memmove(a + 1, b, n), memset(a + 2, 1, n);
    return memcmp(a, b, n);
  }' "$@"
expect "undefined symbols: _Z7outsidev" "call of a foreign function" \
  'void outside(); void f() { outside(); }' "$@"
expect "undefined symbols: _Znwm" "operator new" \
  'int* f() { return new int(1); }' "$@"
expect ".init_array" "constructor before main" \
  'int g(); int value = g(); int f() { return value; }' "$@"
expect "_ZGV" "static that is initialised at run time" \
  'int g(); int& f() { static int v = g(); return v; }' "$@"
expect ".tbss" "thread-local variable" \
  'thread_local int v; int f() { return ++v; }' "$@"
expect "_ZTV" "virtual function" \
  'struct S { virtual int f(); }; int S::f() { return 1; } int g(S* s) { return S(*s).f(); }' "$@"
expect "defines no function" "empty object" '' "$@"
exit "$status"
