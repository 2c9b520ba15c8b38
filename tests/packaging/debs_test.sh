#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Builds the packages, looks into them, and has DKMS build the module from them with the kernel
# headers and sources of this machine, of whichever kernel with a series it has; sources that are not
# those of the kernel are refused.
set -euo pipefail
cd "$(dirname "$0")/../.."

# DKMS makes a signing key in here, whatever its tree is: not on this machine, please.
if ((EUID == 0)) && [[ ! ${VSNOOP_TEST_UNSHARED-} ]]; then
  VSNOOP_TEST_UNSHARED=1 exec unshare --mount "$0"
fi
((EUID != 0)) || { mkdir -p /var/lib/dkms && mount -t tmpfs tmpfs /var/lib/dkms; }

for need in dh dh_dkms dkms xz g++; do
  command -v "$need" >/dev/null || {
    echo "SKIPPED: there is no $need (scripts/deps.sh deb)"
    exit 0
  }
done
for kernel in $(cd xen-netback-patch/series && printf '%s\n' * | sort -V); do
  archive=/usr/src/linux-source-$kernel.tar.xz
  headers=$(find /usr/src -maxdepth 1 -name "linux-headers-$kernel.*-amd64" | sort -V | tail -n 1)
  [[ ! $headers || ! -e $archive ]] || break
done
release=${headers##*/linux-headers-}
if [[ ! $headers || ! -e $archive ]]; then
  echo "SKIPPED: no linux-headers and linux-source of a kernel with a series (scripts/deps.sh deb)"
  exit 0
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
status=0
fail() {
  echo "$*"
  status=1
}
# holds WHAT TEXT PART
holds() { [[ $2 == *"$3"* ]] || fail "$1: '$3' is not in: $2"; }

# --- the packages
scripts/deb.sh >"$dir/out" || { cat "$dir/out" && exit 1; }
deb() { echo build/deb/"$1"_*.deb; }
version=$(dpkg-deb -f "$(deb vsnoop)" Version)
for name in vsnoop vsnoop-xen vsnoop-xen-netback-dkms; do
  dpkg-deb -x "$(deb $name)" "$dir/$name"
  dpkg-deb -e "$(deb $name)" "$dir/$name.control"
done
program=$dir/vsnoop xen=$dir/vsnoop-xen dkms=$dir/vsnoop-xen-netback-dkms
if command -v lintian >/dev/null; then
  # The project has no address yet.
  said=$(lintian --allow-root --fail-on none --suppress-tags bogus-mail-host,bogus-mail-host-in-debian-changelog \
    build/deb/*.deb 2>&1) || true
  [[ ! $said ]] || fail "lintian: $said"
fi

[[ $("$program/usr/bin/vsnoop" --version) == "vsnoop $version" ]] ||
  fail "the program's version is not the package's, $version"
# Without Xen's libraries: all but what asks Xen.
[[ $(dpkg-deb -f "$(deb vsnoop)" Depends) != *xen* ]] || fail "the program needs Xen's libraries"
holds "the dependencies of vsnoop-xen" "$(dpkg-deb -f "$(deb vsnoop-xen)" Depends)" libxenstore
[[ $(dpkg-deb -f "$(deb vsnoop-xen)" Depends) != *dkms* ]] || fail "vsnoop-xen depends on dkms"
holds "help of the packaged program" "$("$program/usr/bin/vsnoop" xen --help)" quiesce
code=0
said=$("$program/usr/bin/vsnoop" xen list 2>&1) || code=$?
((code == 1)) || fail "vsnoop xen without its plugin: exit $code"
holds "vsnoop xen without its plugin" "$said" "install the package vsnoop-xen"
cp -r "$program" "$dir/both"
cp -r "$xen/usr" "$dir/both"
said=$("$dir/both/usr/bin/vsnoop" xen list 2>&1) || true
holds "vsnoop xen with it" "$said" "not run under Xen"

for script in usr/sbin/vsnoop-migrate etc/xen/scripts/vif-vsnoop{,-openvswitch,-route}; do
  sh -n "$xen/$script" || fail "$script"
  [[ -x $xen/$script ]] || fail "$script cannot be executed"
done
man=$program/usr/share/man
[[ -s $xen/usr/share/man/man8/vsnoop-xen.8.gz && -s $xen/usr/share/man/man8/vsnoop-migrate.8.gz ]] ||
  fail "no manual page"
for page in man8/vsnoop-live.8 man1/vsnoop.1 man1/vsnoop-replay.1; do
  said=$(groff -man -Tutf8 -ww -z <(zcat "$man/$page.gz") 2>&1) || fail "$page: groff fails"
  [[ ! $said ]] || fail "$page: $said"
done
holds "vsnoop-live(8)" "$(zcat "$man/man8/vsnoop-live.8.gz")" 'drain\-timeout'
complete() { # WORD...: what bash offers for the last one
  bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vsnoop; echo "${COMPREPLY[*]}"' \
    - "$program/usr/share/bash-completion/completions/vsnoop" "$@"
}
[[ $(complete vsnoop li) == live ]] || fail "completion of a command: $(complete vsnoop li)"
[[ $(complete vsnoop live --pol) == --policy ]] || fail "completion: $(complete vsnoop live --pol)"
[[ $(complete vsnoop live --policy h) == hold ]] || fail "completion of a value"
service=$program/usr/lib/systemd/system/vsnoop-live@.service
if command -v systemd-analyze >/dev/null; then
  sed "s|/usr/bin/vsnoop|$program/usr/bin/vsnoop|" "$service" >"$dir/vsnoop-live@test.service"
  said=$(systemd-analyze verify --man=no "$dir/vsnoop-live@test.service" 2>&1) ||
    fail "the service: $said"
  said=$(systemd-analyze security --offline=true "$dir/vsnoop-live@test.service" --threshold=25 2>&1) ||
    fail "the service is too open: $(tail -n 1 <<<"$said")"
fi
holds "the service's options" "$(dpkg-deb -I "$(deb vsnoop)" conffiles)" /etc/vsnoop/live/example.conf
holds "configuration files" "$(dpkg-deb -I "$(deb vsnoop-xen)" conffiles)" /etc/vsnoop/xen.conf
holds "the module's dependencies" "$(dpkg-deb -f "$(deb vsnoop-xen-netback-dkms)" Depends)" "linux-source-6.1"
[[ -x $dkms/usr/lib/vsnoop/load-netback ]] || fail "no load-netback"
holds "modprobe's configuration" "$(<"$dkms/usr/lib/modprobe.d/vsnoop-xen-netback.conf")" "/usr/lib/vsnoop/load-netback"
holds "postinst" "$(<"$dkms.control/postinst")" "vsnoop-xen-netback"
odd=$(find "$program" "$xen" "$dkms" -type f -perm /022 -o -name '*.orig' -o -name '*.o')
[[ ! $odd ]] || fail "should not be packaged so: $odd"
for notice in "University of Cincinnati" "Niels Lohmann" "Citrix"; do
  holds "the notices" "$(<"$program/usr/share/doc/vsnoop/copyright")" "$notice"
done
# Every link of a document that is shipped leads somewhere.
links=0
while IFS= read -r -d "" document; do
  while IFS= read -r link; do
    links=$((links + 1))
    [[ -e $(dirname "$document")/$link ]] || fail "${document#"$program"}: there is no $link"
  done < <(grep -oE '\]\([^() ]+\)' "$document" | sed -E 's:^..|[#)].*$::g' | grep -vE '^([a-z]+:|$)')
done < <(find "$program/usr/share/doc" -name '*.md' -print0)
((links >= 20)) || fail "only $links links in the documents"
holds "a capture to try" "$("$program/usr/bin/vsnoop" replay "$program/usr/share/doc/vsnoop/tests/captures/download.pcap")" "early ACKs"

# --- the vif script, through the life of its package, with the real dpkg in a folder of its own
root=$dir/root
mkdir -p "$root"/{etc/xen/scripts,var/lib/dpkg/{info,updates,triggers}}
: >"$root/var/lib/dpkg/status"
# shellcheck disable=SC2016 # for the scripts' own shell
plain='echo "${0##*/} $*"'
printf '#!/bin/sh\n%s\n' "$plain" | tee "$root"/etc/xen/scripts/vif-{bridge,openvswitch} >/dev/null
chmod 755 "$root"/etc/xen/scripts/*
package() {
  dpkg --root="$root" --log=/dev/null --force-depends --force-script-chrootless --force-not-root "$@" \
    </dev/null >"$dir/dpkg.out" 2>&1 || fail "dpkg $1: $(<"$dir/dpkg.out")"
}
# starts WHEN: guests that name these scripts start, and nothing of another's is touched.
starts() {
  local kind said
  for kind in bridge openvswitch; do
    name=vif-vsnoop-$kind
    [[ $kind != bridge ]] || name=vif-vsnoop
    said=$(VSNOOP_XEN_CONF=$dir/none "$root/etc/xen/scripts/$name" online a=b 2>&1) || true
    [[ $said == "vif-$kind online a=b" ]] || fail "$name $1: $said"
    [[ $(tail -n 1 "$root/etc/xen/scripts/vif-$kind") == "$plain" ]] ||
      fail "vif-$kind $1 is not what it was"
  done
}
script=$root/etc/xen/scripts/vif-vsnoop
# Of 0.1.0 there was one package for all. Here it is put together from today's, with its old names.
old=$dir/old
cp -r "$program" "$old"
cp -r "$xen"/. "$old"
mkdir "$old/DEBIAN" "$old/lib"
mv "$old/usr/lib/systemd" "$old/lib"
rmdir "$old/usr/lib/vsnoop" 2>/dev/null || rm -r "$old/usr/lib/vsnoop"
sed "s/Left by the purge of vsnoop-xen/Left by the purge of vsnoop-tools/" "$xen.control/postrm" >"$old/DEBIAN/postrm"
chmod 755 "$old/DEBIAN/postrm"
cat "$dir"/vsnoop{,-xen}.control/conffiles >"$old/DEBIAN/conffiles"
printf 'Package: vsnoop-tools\nVersion: 0.1.0\nArchitecture: amd64\nMaintainer: x <x@localhost>\nDescription: x\n' \
  >"$old/DEBIAN/control"
dpkg-deb --root-owner-group -b "$old" "$dir/old.deb" >/dev/null
tools=("$(deb vsnoop)" "$(deb vsnoop-xen)")
package --install "$dir/old.deb"
starts "with 0.1.0"
echo "# mine" >>"$root/etc/vsnoop/xen.conf"
package --install "$(deb vsnoop-tools)" "${tools[@]}"
starts "after the upgrade"
holds "xen.conf after the upgrade" "$(<"$root/etc/vsnoop/xen.conf")" "# mine"
left=$(find "$root/etc" -name '*.dpkg-*')
[[ ! $left ]] || fail "the upgrade left $left"
package --purge vsnoop-tools
starts "after the transitional package is gone"
[[ -e $root/usr/lib/systemd/system/vsnoop-live@.service && -e $root/etc/vsnoop/xen.conf ]] ||
  fail "and with it went files of vsnoop or vsnoop-xen"
package --remove vsnoop-xen vsnoop
starts "after they were removed"
package --purge vsnoop-xen vsnoop
starts "after they were purged"
left=$(find "$root/etc/vsnoop" "$root/usr" ! -type d 2>/dev/null) || true
[[ ! $left ]] || fail "the purge left $left"
holds "purge" "$(<"$dir/dpkg.out")" "stays for guests that name it"
package --install "${tools[@]}"
starts "with the package again"
cmp -s "$script" xen-netback-patch/scripts/vif-vsnoop || fail "the script is not the package's again"
package --purge vsnoop-xen
starts "after it was purged at once"
rm -r "$root/etc/xen"
package --install "${tools[@]}"
package --purge vsnoop-xen
[[ ! -e $root/etc/xen/scripts/vif-vsnoop ]] || fail "without Xen something stays"

# --- the module
# Only netback's part of the archive, so that it need be unpacked but once.
netback=drivers/net/xen-netback
mkdir "$dir/upstream" "$dir/good" "$dir/bad"
tar -C "$dir/upstream" --wildcards -xf "$archive" "*/$netback/*"
pack() { (cd "$dir/upstream" && tar -cJf "$dir/$1/linux-source-$kernel.tar.xz" -- *); }
pack good
file=$(echo "$dir"/upstream/*/"$netback/netback.c")
sed -i '0,/XEN_NETBK/s//XEN_NETBX/' "$file"
pack bad

source=$dkms/usr/src
export VSNOOP_SOURCE_DIR
run_dkms() {
  dkms "$@" -m vsnoop-xen-netback -v "$version" -k "$release" --arch x86_64 \
    --kernelsourcedir "$headers" --sourcetree "$source" --dkmstree "$dir/tree" 2>&1
}
mkdir "$dir/tree"
run_dkms add >/dev/null
built=$dir/tree/vsnoop-xen-netback/$version/$release/x86_64/module

VSNOOP_SOURCE_DIR=$dir/bad
# skipped WHAT REASON: a new kernel's package runs "dkms autoinstall", and is not installed if that fails.
skipped() {
  local said code=0
  said=$(run_dkms build) || code=$?
  ((code == 77)) || fail "$1: DKMS built it, or failed: $code, $said"
  holds "$1" "$said" "$2"
  holds "$1" "$said" "get the kernel's own netback"
  said=$(dkms autoinstall --kernelver "$release" --kernelsourcedir "$headers" --arch x86_64 \
    --sourcetree "$source" --dkmstree "$dir/tree" 2>&1) || fail "$1: autoinstall failed: $said"
  holds "$1" "$said" "$2"
  [[ ! -e $built ]] || fail "$1: and there is a module: $(ls "$built")"
}
skipped "a changed netback.c" "netback.c: FAILED"
VSNOOP_SOURCE_DIR=$dir skipped "no linux-source" "is missing: install linux-source-$kernel"

VSNOOP_SOURCE_DIR=$dir/good
said=$(run_dkms build) || {
  fail "DKMS failed: $said"
  cat "$dir/tree/vsnoop-xen-netback/$version/build/make.log"
}
module=$(echo "$built"/xen-netback.ko*)
[[ -s $module ]] || fail "DKMS built no module: $said"
holds "the module's parameters" "$(/sbin/modinfo -F parm "$module")" vsnoop_total_kib
holds "the kernel it is for" "$(/sbin/modinfo -F vermagic "$module")" "$release "

# refused WHAT REASON RELEASE HEADERS: of the step that DKMS runs first.
refused() {
  local said
  ! said=$("$source/vsnoop-xen-netback-$version/assemble.sh" "$3" "$4" 2>&1) ||
    fail "$1 was not refused"
  holds "$1" "$said" "$2"
}
mkdir "$dir/admin"
printf 'Package: linux-source-%s\nStatus: install ok installed\nVersion: %s.1-1\nArchitecture: all
Maintainer: x\nDescription: x\n' "$kernel" "$kernel" >"$dir/admin/status"
DPKG_ADMINDIR=$dir/admin refused "a linux-source older than the kernel" \
  "of version $kernel.1-1: install linux-source-$kernel=$kernel." "$release" "$headers"
: >"$dir/admin/status"
DPKG_ADMINDIR=$dir/admin refused "a linux-source that is not installed" "of version none" \
  "$release" "$headers"
refused "a kernel that is no package" "not one of Debian's packages" "$release" "$dir"
refused "a kernel without a series" "no patches for kernel 5.10.0-1-amd64" 5.10.0-1-amd64 "$headers"
VSNOOP_SOURCE_DIR=$dir
refused "no linux-source" "is missing: install linux-source-$kernel" "$release" "$headers"
exit $status
