#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Installs the Debian packages that a task needs; silent when all are there. Asks nothing.
#   scripts/deps.sh GROUP...
set -euo pipefail

declare -A packages=(
  [build]="g++ cmake ninja-build pkg-config libpcap-dev libarchive-dev libxen-dev libfmt-dev
          libcli11-dev nlohmann-json3-dev"
  [test]="catch2 clang tshark iproute2 iptables ethtool iperf3 nginx-light curl postgresql
          postgresql-contrib python3 python3-rich python3-markdown-it gnuplot-nox spin
          librapidcheck-dev lintian"
  [programs]="nginx-light curl git rsync openssh-server postgresql mariadb-server samba smbclient
             redis-server iperf3"
  [fuzz]="clang libclang-rt-dev llvm"
  [run]="iproute2 ethtool gnuplot-nox python3 python3-rich"
  [bench]="libbenchmark-dev libdpdk-dev libabsl-dev libboost-dev"
  [xen]="qemu-system-x86 libxen-dev busybox-static cpio kmod make g++ bc bison flex libelf-dev
         patch xz-utils zstd
         dwarves iproute2 iptables ethtool tcpdump python3 python3-rich gnuplot-nox"
  [deb]="debhelper dh-dkms dkms g++ patch xz-utils kmod python3 linux-headers-amd64 linux-source"
  [sim]="libns3-dev python3"
  [campaign]="snakemake python3-pandas python3-matplotlib chromium"
  [debian]="debootstrap"
  [record]="python3-pyte python3-rich"
  [lint]="clang-format clang-tidy shellcheck"
)
# Daemons among them: the tests start their own, the machine's init must not.
services=(nginx postgresql ssh mariadb smbd nmbd redis-server rsync iperf3)

die() {
  echo "deps.sh: $*" >&2
  exit 1
}

wanted=()
for group in "$@"; do
  [[ -v packages[$group] ]] || die "no group '$group'; there are: ${!packages[*]}"
  read -rd '' -a names <<<"${packages[$group]}" || true
  wanted+=("${names[@]}")
done
((${#wanted[@]})) || die "usage: deps.sh GROUP...; groups: ${!packages[*]}"

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  die "this is not Debian (no apt-get); install by other means and call scripts/build.sh or" \
    "scripts/test.sh: ${wanted[*]}"
fi

missing_packages() {
  printf '%s\n' "${wanted[@]}" | sort -u | grep -vxF "$(
    dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null |
      sed -n 's/^installed //p'
  )" || true
}

mapfile -t missing < <(missing_packages)
((${#missing[@]})) || exit 0
((EUID == 0)) || exec "$(dirname "$0")/as-root.sh" "$0" "$@"

# One installation at a time: a second one would take away the first one's policy-rc.d.
exec 9<"$0"
flock 9
mapfile -t missing < <(missing_packages)
((${#missing[@]})) || exit 0

log=$(mktemp)
policy=/usr/sbin/policy-rc.d
marker="# vsnoop's deps.sh, for the time of one apt-get: start no daemon"
ours=0
# One with our marker was left by a run that was killed.
if [[ ! -e $policy ]] || grep -qxF "$marker" "$policy"; then
  ours=1
fi
cleanup() {
  rm -f "$log"
  ((!ours)) || rm -f "$policy"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
if ((ours)); then
  printf '#!/bin/sh\n%s\nexit 101\n' "$marker" >"$policy"
  chmod 755 "$policy"
fi

new_services=()
for service in "${services[@]}"; do
  [[ -e /lib/systemd/system/$service.service ]] || new_services+=("$service")
done

echo "deps.sh: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# A source of the user's own that cannot be reached need not matter: the installation decides.
apt-get -qq update >"$log" 2>&1 || true
if ! apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
  install "${missing[@]}" >>"$log" 2>&1 </dev/null; then
  grep -E '^(E|W|Err|dpkg):?' "$log" >&2 || tail -n 20 "$log" >&2
  die "apt-get could not install: ${missing[*]}"
fi

for service in "${new_services[@]}"; do
  if [[ -e /lib/systemd/system/$service.service ]] && command -v systemctl >/dev/null; then
    systemctl --quiet disable "$service.service" 2>/dev/null || true
  fi
done
