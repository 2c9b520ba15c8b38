#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Installs the packages in a fresh Debian that has nothing else, uses them, and purges them again. Not one
# of CTest's: it downloads some hundred MB. `make deb` made them on the same release of Debian.
#   scripts/on-debian.sh --with build/deb 12 tests/packaging/clean-root.sh
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
cd /root/with

# holds WHAT TEXT PART
holds() {
  [[ $2 == *"$3"* ]] || {
    printf '%s: "%s" is not in: %s\n' "$@" >&2
    exit 1
  }
}
# install PACKAGE...: without what is only recommended; prints what apt and the packages say.
install() {
  apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install "$@" >/tmp/said 2>&1 </dev/null || {
    tail -n 5 /tmp/said >&2
    echo "apt-get install $*: failed" >&2
    return 1
  }
  cat /tmp/said
}
files() { find / -xdev ! -type d ! -path '/var/*' ! -path '/root/*' ! -path '/tmp/*' ! -path '/etc/ld.so.cache' | sort; }

apt-get -qq update
before=$(files)
packages_before=$(dpkg-query -W -f '${Package}\n')

install ./vsnoop_*.deb >/dev/null
[[ $(dpkg-query -W -f '${Package}\n') != *libxen* ]] || { echo "vsnoop brought Xen's libraries" >&2 && exit 1; }
holds "the program" "$(vsnoop --version)" vsnoop
# minbase leaves out documentation only where it is told to.
holds "replay" "$(vsnoop replay /usr/share/doc/vsnoop/tests/captures/download.pcap)" "early ACKs"
holds "without vsnoop-xen" "$(vsnoop xen list 2>&1 || true)" "install the package vsnoop-xen"
echo "vsnoop: installed, runs"

install ./vsnoop-xen_*.deb >/dev/null
holds "with vsnoop-xen" "$(vsnoop xen list 2>&1 || true)" "not run under Xen"
echo "vsnoop-xen: installed, loads Xen's libraries"

said=$(install ./vsnoop-xen-netback-dkms_*.deb)
holds "the module without headers" "$said" "NOTHING WAS BUILT"
echo "vsnoop-xen-netback-dkms: installed without headers, says that nothing was built"
install linux-headers-amd64 >/dev/null
release=$(find /usr/src -maxdepth 1 -name 'linux-headers-*-amd64' -printf '%f\n' | sort -V | tail -n 1)
release=${release#linux-headers-}
dkms autoinstall -k "$release" >/dev/null
holds "the module with headers" "$(dkms status)" "$release"
module=$(find "/lib/modules/$release/updates/dkms" -name 'xen-netback.ko*')
holds "the module" "$(modinfo -F parm "$module")" vsnoop_total_kib
[[ $(modinfo -F license "$module") == GPL ]] || { echo "its licence: $(modinfo -F license "$module")" >&2 && exit 1; }
echo "vsnoop-xen-netback-dkms: builds for $release"
holds "installed again" "$(install --reinstall ./vsnoop-xen-netback-dkms_*.deb)" "built for $release"

apt-get -qq -y -o Dpkg::Use-Pty=0 purge vsnoop vsnoop-xen vsnoop-xen-netback-dkms >/dev/null
[[ ! -e $module ]] || { echo "the module is still there" >&2 && exit 1; }
mapfile -t new < <(comm -13 <(sort <<<"$packages_before") <(dpkg-query -W -f '${Package}\n' | sort))
apt-get -qq -y -o Dpkg::Use-Pty=0 purge "${new[@]}" >/dev/null
left=$(comm -13 <(echo "$before") <(files) | grep -E 'vsnoop|xen-netback|dkms' || true)
[[ ! $left ]] || { printf 'the purge left:\n%s\n' "$left" >&2 && exit 1; }
echo "purged: nothing is left"
