#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# vif-vsnoop, vsnoop-migrate and load-netback, with stand-ins for xl, vsnoop and xenstore that note what they are
# asked.
# shellcheck disable=SC2016 # what stands in '' is for the stand-ins' own shells
set -euo pipefail
scripts=$(cd "$(dirname "$0")/../../xen-netback-patch/scripts" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
status=0

expect() { # WHAT WANTED GOT
  [[ $3 == "$2" ]] && return
  printf '%s: expected:\n%s\ngot:\n%s\n' "$1" "$2" "$3"
  status=1
}

# stand_in NAME SCRIPT
mkdir "$dir/bin" "$dir/scripts"
stand_in() {
  printf '#!/bin/bash\n%s\n' "$2" >"$dir/bin/$1"
  chmod +x "$dir/bin/$1"
}
export dir PATH=$dir/bin:$PATH

# --- vif-vsnoop
stand_in xenstore-read 'case $1 in
  backend/vif/3/*/frontend-id) echo 3 ;;
  /local/domain/3/vm) echo /vm/1 ;;
  /local/domain/*/name) cat "$dir/name" ;;
  *) echo "no $1" >&2; exit 1 ;;
esac'
stand_in xenstore-write 'echo "write $*" >>"$dir/said"'
for plain in vif-bridge vif-openvswitch; do
  printf '#!/bin/sh\necho "%s $*" >>"$dir/said"; exit 7\n' "$plain" >"$dir/scripts/$plain"
done
cp "$scripts/vif-vsnoop" "$dir/scripts"
ln -s vif-vsnoop "$dir/scripts/vif-vsnoop-openvswitch"
chmod +x "$dir"/scripts/*
export VSNOOP_XEN_CONF=$dir/xen.conf

# vif NAME HANDLE SCRIPT ARG...: what is done for that guest, and the exit status.
vif() {
  local code=0
  echo "$1" >"$dir/name"
  : >"$dir/said"
  XENBUS_PATH=backend/vif/3/$2 timeout "${VIF_TIMEOUT:-60}" "$dir/scripts/$3" "${@:4}" 2>/dev/null ||
    code=$?
  cat "$dir/said"
  echo "status $code"
}

expect "no configuration" "vif-bridge online type_if=vif
status 7" "$(vif web 0 vif-vsnoop online type_if=vif)"

printf '# a comment\n\nweb.1 off\nweb   hold,vif_kib=8192\ndb*   ring # the rest\nnode? hold' \
  >"$dir/xen.conf"
expect "a guest's line" "write backend/vif/3/0/vsnoop hold,vif_kib=8192
vif-bridge online
status 7" "$(vif web 0 vif-vsnoop online)"
expect "the line of one vif, which comes first" "write backend/vif/3/1/vsnoop off
vif-bridge online
status 7" "$(vif web 1 vif-vsnoop online)"
expect "a pattern" "write backend/vif/3/0/vsnoop ring
vif-bridge online
status 7" "$(vif db-main 0 vif-vsnoop online)"
expect "a last line without an end" "write backend/vif/3/0/vsnoop hold
vif-bridge online
status 7" "$(vif node9 0 vif-vsnoop online)"
printf 'web* ring\n*e? off\nweb hold\nweb.1 off\ndb.?[0-3] hold\nlate' >"$dir/xen.conf"
expect "the very name, before a pattern" "write backend/vif/3/0/vsnoop hold
vif-bridge online
status 7" "$(vif web 0 vif-vsnoop online)"
expect "a guest named like another's vif" "write backend/vif/3/0/vsnoop off
vif-bridge online
status 7" "$(vif web.1 0 vif-vsnoop online)"
expect "a line without a setting" "vif-bridge online
status 7" "$(vif late 0 vif-vsnoop online)"

# Patterns fit as "case" has it, under each shell that may be sh.
for shell in dash bash "busybox sh"; do
  for pattern in '*' '**' 'a*' '*a' '*a*' 'a*b' 'a*b*c' '*ab*ab' 'a?c*' '*?b' '[ab]*[!c]' 'a**b' '*.1' 'ab'; do
    for guest in a b ab aab abc abab acb aXbXc abcab ababab a.1 X; do
      said=$(sed -n '/^fits() {/,/^}/p' "$scripts/vif-vsnoop" |
        $shell -c 'eval "$(cat)"; fits "$1" "$2" && echo yes || echo no' fits "$guest" "$pattern")
      # shellcheck disable=SC2254
      case $guest in $pattern) wanted=yes ;; *) wanted=no ;; esac
      expect "$shell: $guest in $pattern" "$wanted" "$said"
    done
  done
done

# A tenant's long name under an administrator's pattern: at once, and so is one too long for any.
printf '%s hold\n' '*a*a*a*a*a*a*a*a*a*a*b' >"$dir/xen.conf"
long=$(printf 'a%.0s' {1..250})
export VIF_TIMEOUT=5
expect "a pattern with many stars" "vif-bridge online
status 7" "$(vif "$long" 0 vif-vsnoop online)"
expect "which fits" "write backend/vif/3/0/vsnoop hold
vif-bridge online
status 7" "$(vif "${long}b" 0 vif-vsnoop online)"
expect "a name too long for patterns" "vif-bridge online
status 7" "$(vif "$long$long$long${long}b" 0 vif-vsnoop online)"
unset VIF_TIMEOUT

# What a guest is called while it comes from another host anybody may call his. arrives NAME: the name
# it has in the end, "" if it goes; then what is done until nothing of the script runs any more.
printf 'web hold\n' >"$dir/xen.conf"
arrives() {
  vif web--incoming 0 vif-vsnoop online >/dev/null
  [[ ! $(<"$dir/said") == *write* ]] || echo "at once: $(<"$dir/said")"
  : >"$dir/said"
  if [[ $1 ]]; then echo "$1" >"$dir/name"; else rm "$dir/name"; fi
  while pgrep -f "^/bin/sh $dir/scripts/vif-vsnoop" >/dev/null; do sleep 0.1; done
  cat "$dir/said"
}
expect "a guest that came from another host" "write backend/vif/3/0/vsnoop hold" "$(arrives web)"
expect "one that did not come" "" "$(arrives "")"
expect "one that is called something else now" "" "$(arrives mail)"
printf 'web hold,vif_kib=8192\n' >"$dir/xen.conf"
expect "another plain script, by name" "write backend/vif/3/0/vsnoop hold,vif_kib=8192
vif-openvswitch online
status 7" "$(vif web 0 vif-vsnoop-openvswitch online)"
expect "a guest without a line" "vif-bridge online
status 7" "$(vif mail 0 vif-vsnoop online)"
expect "offline" "vif-bridge offline
status 7" "$(vif web 0 vif-vsnoop offline)"
stand_in xenstore-write 'exit 1'
expect "no setting, but a network" "vif-bridge online
status 7" "$(vif web 0 vif-vsnoop online)"

# --- vsnoop-migrate
stand_in vsnoop 'echo "vsnoop $*" >>"$dir/said"; exit "$(cat "$dir/$2")"'
stand_in xl 'case $1 in
  domid) [[ $2 == web ]] && echo 3 ;;
  *) echo "xl $*" >>"$dir/said"; [[ ! -e $dir/killed ]] || kill -TERM $PPID; exit "$(cat "$dir/xl")" ;;
esac'

# migrate QUIESCE XL ARG...: what happens if these exit so.
migrate() {
  local code=0
  : >"$dir/said"
  echo "$1" >"$dir/quiesce"
  echo 0 >"$dir/resume"
  echo "$2" >"$dir/xl"
  "$scripts/vsnoop-migrate" "${@:3}" 2>/dev/null || code=$?
  cat "$dir/said"
  echo "status $code"
}

asked="vsnoop xen quiesce --timeout 30s --on-timeout abort 3"
expect "success: it is gone, nothing to resume" "$asked
xl migrate 3 other
status 0" "$(migrate 0 0 web other)"
expect "options" "vsnoop xen quiesce --timeout 5s --on-timeout reset 3
xl migrate --debug -s rsh 3 other
status 0" "$(migrate 0 0 --timeout 5s --on-timeout reset web other --debug -s rsh)"
expect "xl fails: it goes on here" "$asked
xl migrate 3 other
vsnoop xen resume 3
status 9" "$(migrate 0 9 web other)"
expect "not drained: it stays" "$asked
vsnoop xen resume 3
status 3" "$(migrate 3 0 web other)"
touch "$dir/killed"
expect "interrupted" "$asked
xl migrate 3 other
vsnoop xen resume 3
status 130" "$(migrate 0 0 web other)"
rm "$dir/killed"
expect "no such guest" "status 1" "$(migrate 0 0 nobody other)"
# A guest may be named like the number of another.
expect "a number" "vsnoop xen quiesce --timeout 30s --on-timeout abort 7
xl migrate 7 other
status 0" "$(migrate 0 0 7 other)"
stand_in xenstore-list 'printf "0\n3\n9\n"'
echo web >"$dir/name"
expect "two of that name" "status 1" "$(migrate 0 0 web other)"
for wrong in "web" "" "--timeout" "--live web other"; do
  # shellcheck disable=SC2086
  expect "usage: $wrong" "status 2" "$(migrate 0 0 $wrong)"
done
# --- load-netback: modprobe's command for the module
dkms=$scripts/../dkms
export VSNOOP_MODULES=$dir/modules
own=$dir/modules/$(uname -r)/kernel/drivers/net/xen-netback
mkdir -p "$own"
touch "$own/xen-netback.ko"
stand_in modprobe 'echo "modprobe $*" >>"$dir/said"; exit "$(cat "$dir/takes")"'
stand_in insmod 'echo "insmod ${1#"$dir"/modules/*/} ${*:2}" >>"$dir/said"'
stand_in logger 'echo "logger" >>"$dir/said"'
load() {
  local code=0
  echo "$1" >"$dir/takes"
  : >"$dir/said"
  "$dkms/load-netback" max_queues=4 2>"$dir/err" || code=$?
  cat "$dir/said"
  echo "status $code"
}
expect "a kernel that takes the module" "modprobe --ignore-install xen-netback max_queues=4
status 0" "$(load 0)"
expect "a kernel that does not: its own is loaded" "modprobe --ignore-install xen-netback max_queues=4
insmod kernel/drivers/net/xen-netback/xen-netback.ko max_queues=4
logger
status 0" "$(load 1)"
expect "and it says why" 1 "$(grep -c "mokutil --import" "$dir/err")"
rm "$own/xen-netback.ko"
expect "a kernel that has none of its own" "modprobe --ignore-install xen-netback max_queues=4
status 1" "$(load 1)"

exit $status
