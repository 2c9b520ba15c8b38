# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# Names are their owners' to choose: digits, alike, with dots and control bytes; a guest that arrives under
# another name. What the operator's commands do is done to the right guest, or to none.
netback /xen-netback.ko
printf 'web hold\n*x*x*x*x*x*x*x*x*x*y ring\n' >/etc/vsnoop/xen.conf
vif_script=vif-vsnoop-plain
guest g2 1
first=$(xl domid g2)
first_at=$(vifpath g2)
sed 's/name="g2"/name="web--incoming"/; s/vs.ip=10.0.0.2/vs.ip=10.0.0.3/; s/:00:02/:00:03/' /run/g2.cfg >/run/in.cfg
xl create -q /run/in.cfg || fail "xl create web--incoming"
second=$(xl domid web--incoming)
second_at=/local/domain/0/backend/vif/$second/0
within 30 "web--incoming does not answer" answers g3
xenstore-exists "$second_at/vsnoop" && fail "web--incoming has a setting"
xl rename web--incoming web || fail "xl rename"
awaits "$second_at/vsnoop" hold
awaits "$second_at/vsnoop-state" hold
waits() { ps | grep -v grep | grep -q vif-vsnoop; }
no_longer() { ! "$@"; }
within 5 "vif-vsnoop still waits for a name" no_longer waits
say "case arrived ended"

xenstore-write "/local/domain/$first/name" "$second"
vsnoop xen set "$second" ring || fail "set $second"
xenstore-exists "$first_at/vsnoop" && fail "the guest named $second was set"
[ "$(xenstore-read "$second_at/vsnoop")" = ring ] || fail "domain $second was not set"
vsnoop xen set web hold || fail "set web"
vsnoop-migrate --timeout 5s "$second" "xl migrate-receive" -s "" >/run/migrate.log 2>&1 &
migration=$!
while ! over $migration; do
  xenstore-exists "$second_at/vsnoop/quiesce" && : >/run/right
  xenstore-exists "$first_at/vsnoop/quiesce" && : >/run/wrong
done
grep -q "Migration failed" /run/migrate.log || fail "vsnoop-migrate: $(tail -n 1 /run/migrate.log)"
[ -e /run/right ] || fail "domain $second was not drained"
[ -e /run/wrong ] && fail "the guest named $second was drained"
xenstore-exists "$second_at/vsnoop/quiesce" && fail "domain $second is still quiesced"
awaits "$second_at/vsnoop-state" hold
say "case digits ended"

xenstore-write "/local/domain/$first/name" web
vsnoop xen set web off && fail "a name of two guests was taken"
vsnoop-migrate web "xl migrate-receive" && fail "vsnoop-migrate took a name of two guests"
xenstore-write "/local/domain/$first/name" web.0
vsnoop xen set web.0 off && fail "'web.0' is a guest, and a vif of another: it was taken"
vsnoop xen quiesce "$second.0" || fail "quiesce $second.0"
vsnoop xen resume "$second.0" || fail "resume $second.0"
say "case alike ended"

xenstore-write "/local/domain/$first/name" "$(printf 'a\n== FAILED: a row that is none\033[31m\377')"
vsnoop xen list >/results/list.txt || fail "vsnoop xen list"
vsnoop xen list --json >/results/list.json || fail "vsnoop xen list --json"
vsnoop xen top --once >/results/top.txt || fail "vsnoop xen top"
vsnoop xen top --once --json >/results/top.json || fail "vsnoop xen top --json"
cat /results/list.txt /results/top.txt
say "case control-bytes ended"

xl destroy "$first"
vsnoop xen set "$first" hold && fail "a domain that is gone was set"
xenstore-exists "/local/domain/0/backend/vif/$first" &&
  fail "left of it is $(xenstore-ls "/local/domain/0/backend/vif/$first")"
vsnoop xen list --json >/dev/null || fail "vsnoop xen list"
say "case names ended"
