#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Fails unless a kernel can bear this C++ object: nothing that needs a C++ run time, nothing
# undefined that the kernel does not export to C, nothing visible but the C face.
#   audit.sh core.o [constructors] [branches]
# constructors: this kernel runs them, for its sanitizers (CONFIG_CONSTRUCTORS). branches: it is one
# without retpolines.
set -eu
object=${1:?usage: audit.sh OBJECT [constructors] [branches]}
shift
bears() { case " $allowed " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
allowed=$*
status=0

# fault WHAT NAMES: complains if there are any names.
fault() {
	[ -n "$2" ] || return 0
	echo "$object: audit: $1: $(printf '%s\n' "$2" | sort -u | tr '\n' ' ')" >&2
	status=1
}

symbols=$(nm "$object")
sections=$(readelf --section-headers --wide "$object")
code=$(objdump --disassemble --no-show-raw-insn "$object")

printf '%s\n' "$symbols" | grep -q ' T vsnoop_' || fault "defines no function of the C face" .
fault "undefined symbols" "$(printf '%s\n' "$symbols" | awk 'NF == 2 && $1 == "U" { print $2 }' |
	grep -vE '^(mem(cpy|move|set|cmp)|__stack_chk_fail|__ref_stack_chk_guard|__fentry__|__x86_(indirect_thunk_r[a-z0-9]+|return_thunk)|__(asan|kasan|ubsan|kcsan|tsan|sanitizer)_.*)$' || true)"
fault "weak symbols" "$(printf '%s\n' "$symbols" | awk '$(NF - 1) ~ /^[VvWwu]$/ { print $NF }')"
fault "visible, and not of the C face" "$(printf '%s\n' "$symbols" |
	awk '$(NF - 1) ~ /^[A-TX-Z]$/ && NF == 3 { print $NF }' | grep -v '^vsnoop_' || true)"
fault "guards, thread-locals, vtables, type information" \
	"$(printf '%s\n' "$symbols" | awk '$NF ~ /^_Z(G[VR]|T[HISTVW])/ { print $NF }')"
arrays='|init_array|fini_array|ctors|dtors'
if bears constructors; then arrays=""; fi
fault "sections that need a run time" "$(printf '%s\n' "$sections" |
	grep -oE "\.(preinit_array|tdata|tbss|eh_frame|gcc_except_table$arrays)\b" || true)"
fault "COMDAT groups" "$(printf '%s\n' "$sections" | grep -oE ' GROUP +[0-9a-f]+' || true)"
fault "floating point or vector registers" "$(printf '%s\n' "$code" |
	grep -oE '%([xyz]mm[0-9]+|st\([0-7]\))' || true)"
# Where the kernel wants thunks (it then named them for the C objects), none may be missing.
if printf '%s\n' "$symbols" | grep -q ' U __x86_return_thunk'; then
	fault "bare returns" "$(printf '%s\n' "$code" | grep -oE '\sretq?$' || true)"
fi
if ! bears branches; then
	fault "bare indirect branches" "$(printf '%s\n' "$code" | grep -oE '\s(jmp|call)q? +\*%r[a-z0-9]+' || true)"
fi
exit $status
