# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# The operator's commands.
up

vsnoop xen list --json >/results/list.json || fail "vsnoop xen list"
vsnoop xen list
vsnoop xen set nobody hold 2>/dev/null && fail "vsnoop xen set: there is no guest 'nobody'"
vsnoop xen set g2 hold --engage always --json >/results/set.json || fail "vsnoop xen set"
stream watched g2 --repeat 6
vsnoop xen top --once --json >/results/top.json || fail "vsnoop xen top"
vsnoop xen flows g2 --json >/results/flows.json || fail "vsnoop xen flows"
vsnoop xen quiesce g2 --json >/results/quiesce.json || fail "vsnoop xen quiesce"
vsnoop xen stats g2 --json >/results/stats.json || fail "vsnoop xen stats"
vsnoop xen resume g2 || fail "vsnoop xen resume"
ended watched
# Debian's Xen has no log-dirty mode for PV guests, so that this fails after quiescing; then all must
# go on.
stream not-migrated g2 --limit 120s --repeat 6
vsnoop-migrate g2 "xl migrate-receive" -s "" >/run/migrate.log 2>&1 && fail "vsnoop-migrate: moved g2"
grep -q "Migration failed" /run/migrate.log || fail "vsnoop-migrate: $(tail -n 1 /run/migrate.log)"
awaits "$(vifpath g2)/vsnoop-state" hold
ended not-migrated
settled g2
# What cannot drain in time is reset.
stream timed-out g2 --limit 30s
xl pause g2
vsnoop xen quiesce g2 --timeout 1s --on-timeout reset --json >/results/reset.json || fail "vsnoop xen quiesce: reset"
ended timed-out
xl unpause g2
vsnoop xen resume g2 || fail "vsnoop xen resume"
within 5 "g2 does not answer after a reset" answers g2
stream after-reset g2
ended after-reset
settled g2
vsnoop xen set g2 off || fail "vsnoop xen set"
