#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Builds xen-netback with vsnoop for one kernel: upstream's sources, checked and patched, the glue
# and snoop-core in one folder, then Kbuild.
#   build.sh --kernel 6.1 --source linux-source-6.1.tar.xz|DIR --headers DIR --out DIR
#     --kernel SERIES   which of series/ to apply: 6.1, 6.12 or 7.3
#     --source PATH     Debian's linux-source: the tar file, or the folder it was unpacked to
#     --headers DIR     the build folder of the kernel to build for (/lib/modules/RELEASE/build)
#     --out DIR         made anew; holds the sources and xen-netback.ko. It must be empty, not there
#                       yet, or of an earlier run
#     --pristine        upstream's module, unpatched, with the same flags: to compare with
#     --assemble-only   stop before Kbuild (DKMS runs it itself); --headers is not needed
# Fails if upstream's files are not those the series was made for: a patch that still applies could
# undo a security fix unseen.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Beside us in a checkout, below us in the DKMS package.
core=$here/..
[[ -d $core/snoop-core ]] || core=$here

die() {
  echo "build.sh: $*" >&2
  exit 1
}

kernel="" source="" headers="" out="" pristine=0 assemble_only=0
while (($#)); do
  case $1 in
    --kernel | --source | --headers | --out)
      (($# > 1)) || die "$1 needs a value"
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --pristine) pristine=1 && shift ;;
    --assemble-only) assemble_only=1 && shift ;;
    *) die "what is '$1'? See the head of this file" ;;
  esac
done
series=$here/series/$kernel
[[ $kernel && -d $series ]] || die "no series for kernel '$kernel'; there are: $(ls "$here/series")"
[[ $out ]] || die "--out is missing"
[[ -e $source ]] || die "no such source: '$source' (package linux-source-$kernel has it)"
((assemble_only)) || [[ -e $headers/Makefile ]] ||
  die "no kernel build folder: '$headers' (package linux-headers-RELEASE has it)"

netback=drivers/net/xen-netback
# Only what an earlier run has made is deleted: --out may be a slip of the keyboard.
mark=.made-by-vsnoop-build
if [[ -e $out && ! -d $out ]]; then
  die "--out $out is not a folder"
elif [[ -d $out && ! -e $out/$mark && $(ls -A "$out") ]]; then
  die "--out $out holds files that are not of an earlier build: name an empty folder, or a new one"
fi
rm -rf "$out"
mkdir -p "$out"
touch "$out/$mark"
out=$(cd "$out" && pwd)

unpacked=$out/upstream
if [[ -d $source ]]; then
  mkdir -p "$unpacked/$netback"
  cp "$source/$netback"/* "$unpacked/$netback"
else
  mkdir -p "$unpacked"
  tar -C "$unpacked" --strip-components=1 --wildcards -xf "$source" "*/$netback/*" ||
    die "$source does not hold $netback"
fi

(cd "$unpacked/$netback" && sha256sum --quiet --strict -c "$series/SHA256SUMS" >&2) || {
  rm -rf "$out"
  die "$source: the files above are not those that series/$kernel was made for; see" \
    "xen-netback-patch/README.md, \"A new kernel\""
}

if ((!pristine)); then
  for patch in "$series"/*.patch; do
    patch --directory="$unpacked" --strip=1 --fuzz=0 --quiet --input="$patch" ||
      die "$patch does not apply"
  done
fi
cp "$unpacked/$netback"/*.[ch] "$out"
rm -rf "$unpacked"
if ((pristine)); then
  echo 'obj-m := xen-netback.o
xen-netback-y := netback.o xenbus.o interface.o hash.o rx.o' >"$out/Kbuild"
else
  cp -r "$here"/module/. "$out"
  mkdir "$out/snoop-core" "$out/flowtable"
  cp "$core"/snoop-core/*.{h,cc,def} "$out/snoop-core"
  cp "$core"/flowtable/*.h "$out/flowtable"
fi
((assemble_only)) && exit 0

# objtool only warns about code it does not understand: here that is a fault.
log=$out/build.log
if ! make -C "$headers" M="$out" modules >"$log" 2>&1 || grep -q 'warning:\|objtool:' "$log"; then
  cat "$log" >&2
  die "the module did not build without a warning"
fi
[[ -s $out/xen-netback.ko ]] || die "Kbuild made no xen-netback.ko; see $log"
