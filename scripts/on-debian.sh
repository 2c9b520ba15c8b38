#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Runs a command in a fresh clone of this project on a fresh Debian of another release: a root made by
# debootstrap, as a newcomer's machine would be. Wants root, and a network for packages.
#   scripts/on-debian.sh [--again] [--with FOLDER] RELEASE COMMAND [ARG]...
#     RELEASE   12, 13, or the name of a release that debootstrap knows (trixie)
#     --again   in the root of the run before, with what it has installed and built; its clone is brought
#               to what is committed now
#     --with    copies the files of this folder to /root/with
#     COMMAND   is run in the clone: scripts/on-debian.sh 13 make test
# What is committed is cloned, nothing else. The root stays in build/debian/NAME, and takes some GB;
# a new run begins with a copy of it as debootstrap made it, and with the packages already fetched.
# MIRROR=URL: packages from there.
set -euo pipefail
cd "$(dirname "$0")/.."

die() {
  echo "on-debian.sh: $*" >&2
  exit 2
}

again=0 with=""
options=()
while [[ ${1-} == --* ]]; do
  case $1 in
    --again) again=1 options+=("$1") && shift ;;
    --with) with=${2-} options+=("$1" "$with") && shift 2 ;;
    *) die "what is '$1'? See the head of this file" ;;
  esac
done
(($# >= 2)) || die "usage: on-debian.sh [--again] [--with FOLDER] RELEASE COMMAND [ARG]..."
[[ ! $with || -d $with ]] || die "there is no folder $with"
case $1 in
  12) suite=bookworm ;;
  13) suite=trixie ;;
  *) suite=$1 ;;
esac
shift
((EUID == 0)) || exec scripts/as-root.sh "$0" "${options[@]}" "$suite" "$@"
scripts/deps.sh debian
[[ -e /usr/share/debootstrap/scripts/$suite ]] ||
  die "debootstrap knows no release '$suite'; 12 and 13 are tried"

mkdir -p "build/debian/$suite/archives"
folder=$PWD/build/debian/$suite
pristine=$folder/pristine.tar root=$folder/root
exec 9>"$folder/lock"
flock --nonblock 9 || die "another run is using $folder"

if [[ ! -e $pristine ]]; then
  echo "on-debian.sh: making a root of $suite"
  rm -rf "$folder/new"
  debootstrap --variant=minbase "$suite" "$folder/new" ${MIRROR:+"$MIRROR"} >"$folder/debootstrap.log" 2>&1 || {
    tail -n 5 "$folder/debootstrap.log" >&2
    die "debootstrap failed; see $folder/debootstrap.log"
  }
  tar --one-file-system -C "$folder/new" -cf "$pristine.part" .
  mv "$pristine.part" "$pristine"
  rm -rf "$folder/new"
fi

if ((!again)); then
  rm -rf --one-file-system "$root"
  mkdir -p "$root"
  tar -C "$root" -xf "$pristine"
  install -m 644 /etc/resolv.conf "$root/etc/resolv.conf"
  # Updates and security, as every installation has them.
  sed -i 's#^deb \(.*\)/debian/* \([a-z]*\) main$#&\ndeb \1/debian \2-updates main\ndeb \1/debian-security \2-security main#' \
    "$root/etc/apt/sources.list"
  # The machine's own proxy for packages, if it has one.
  apt-config dump | grep -E '^Acquire::https?::Proxy' >"$root/etc/apt/apt.conf.d/90proxy" || true
  # A package must not start its daemon on the machine that this root is on.
  printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
  chmod 755 "$root/usr/sbin/policy-rc.d"
  # make is what a README takes for granted.
  chroot "$root" sh -c 'apt-get -qq update && apt-get -qq -y --no-install-recommends install make' \
    >"$folder/apt.log" 2>&1 </dev/null || {
    tail -n 5 "$folder/apt.log" >&2
    die "no packages could be installed; see $folder/apt.log"
  }
  git -c advice.detachedHead=false clone --quiet --no-hardlinks . "$root/root/vsnoop"
elif [[ -d $root/root/vsnoop ]]; then
  git -C "$root/root/vsnoop" fetch --quiet "$PWD" HEAD
  git -C "$root/root/vsnoop" reset --quiet --hard FETCH_HEAD
else
  die "there is no earlier run to go on with"
fi

if [[ $with ]]; then
  rm -rf "$root/root/with"
  mkdir "$root/root/with"
  find "$with" -maxdepth 1 -type f -exec cp -t "$root/root/with" {} +
fi

# Mounts and processes end with the command.
# shellcheck disable=SC2016 # for the inner shell
exec unshare --mount --pid --fork --kill-child bash -c '
  root=$1 archives=$2 && shift 2
  mount --make-rprivate /
  mount --bind "$root" "$root" # "ip netns exec" wants / to be a mount
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/run"
  mount --bind "$archives" "$root/var/cache/apt/archives"
  exec chroot "$root" env -i HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    bash -c '\''cd /root/vsnoop && exec "$@"'\'' bash "$@"
' bash "$root" "$folder/archives" "$@"
