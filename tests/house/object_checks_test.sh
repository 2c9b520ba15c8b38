#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# A check of object files must find each fault it is there for.
#   object_checks_test.sh CHECK COMPILER FLAG...
#     CHECK     scripts/check-freestanding.sh or the kernel module's audit.sh
#     COMPILER  and flags of snoop-core
set -euo pipefail

check=$1
shift
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
status=0
allowed=""  # further words for the check

# verdict COMPILE-COMMAND...: compiles standard input, prints what the check says.
verdict() {
  "$@" -x c++ -c -o "$dir/object.o" - || {
    echo "does not compile"
    return
  }
  # shellcheck disable=SC2086 # words
  "$check" "$dir/object.o" $allowed 2>&1 && echo "clean"
}

# expect TEXT DESCRIPTION CODE COMPILE-COMMAND...
expect() {
  local text=$1 what=$2 code=$3 said
  shift 3
  # The audit wants something of the C face in each object.
  [[ -z $code ]] || code+=' extern "C" int vsnoop_face() { return 0; }'
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
  extern "C" int vsnoop_f(char* a, const char* b, Size n) {
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
expect "no function" "empty object" '' "$@"
if [[ $check == *audit.sh ]]; then
  expect "weak symbols: " "function that may come from several units" \
    'template <class T> T f(T a) { return a; } auto* p = &f<int>;' "$@"
  expect "COMDAT groups" "the group it comes in" \
    'inline int f() { return 1; } auto* p = &f;' "$@"
  expect "not of the C face: _Z1fv" "function that other parts of the kernel could see" \
    'int f() { return 1; }' "$@"
  expect "not of the C face: value" "variable of that kind" \
    'extern "C" { int value = 1; }' "$@"
  expect "vector registers" "floating point" \
    'extern "C" double vsnoop_f(double a) { return a * 2; }' "$@"
  expect ".eh_frame" "unwind tables" 'int f() { return 1; }' "$@" -fasynchronous-unwind-tables
  expect "indirect branches" "call through a register, without a thunk" \
    'extern "C" int vsnoop_f(int (*f)()) { return f() + 1; }' "$@"
  expect "returns" "return without a thunk, where others have it" \
    '__asm__(".globl __x86_return_thunk\njmp __x86_return_thunk");' "$@"
  constructor='__attribute__((constructor)) static void f() { __asm__(""); }'
  call='extern "C" int vsnoop_f(int (*f)()) { return f() + 1; }'
  expect ".init_array" "constructor by attribute" "$constructor" "$@"
  allowed=constructors
  expect clean "constructors in a kernel that runs them" "$constructor" "$@"
  expect "indirect branches" "constructors are not branches" "$call" "$@"
  allowed=branches
  expect clean "branches in a kernel without retpolines" "$call" "$@"
  expect ".init_array" "branches are not constructors" "$constructor" "$@"
fi
exit "$status"
