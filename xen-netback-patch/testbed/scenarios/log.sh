# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# Readers of the decision log: while the vif goes, closed after it has gone, two at a time, one that does not
# keep up. The toolstack's thread in the kernel never waits for one.
up
calm g2 g3
log() { echo "/sys/kernel/debug/xen-netback/$(vif "$1")/vsnoop_log"; }
guest g4 1
cat "$(log g4)" >/run/g4.vslog &
reader=$!
usleep 200000
xl destroy g4 &
destroyer=$!
within 15 "xl destroy waits for a reader of the log" over $destroyer
within 5 "the reader of a vif that is gone does not see the end of the file" over $reader
guest g5 1
say "case destroyed-while-read ended"

guest g4 1
(exec 3<"$(log g4)" && exec sleep 1000) &
holder=$!
usleep 200000
xl destroy g4 &
destroyer=$!
within 15 "xl destroy waits for a holder of the log" over $destroyer
guest g6 1
kill $holder
usleep 200000
guest g7 1
say "case closed-late ended"

# The frontend goes and comes: the log of the vif goes with its debugfs folder.
guest g4 1 modules=/odd-netfront.ko
cat "$(log g4)" >/run/g4.vslog &
reader=$!
usleep 200000
on g4 'echo 1 >/sys/module/odd_netfront/parameters/resume'
reached g4
within 5 "the reader of a vif that has reconnected does not see the end of the file" over $reader
cat "$(log g4)" >/run/g4.vslog &
reader=$!
usleep 100000
over $reader && fail "the log cannot be read after a reconnect"
cat "$(log g4)" >/dev/null 2>/run/second && fail "two readers"
grep -qi busy /run/second || fail "second reader: $(cat /run/second)"
kill $reader
for one in g4 g5 g6 g7; do xl destroy $one; done

# Under load: one that keeps up, and one that reads nothing.
busy g2 g3
recorded g2 loaded
offload g2 hold,engage=always
stream read g2
ended read
settled g2
offload g2 off
kill $recorder
usleep 100000
(exec 3<"$(log g2)" && exec sleep 1000) &
holder=$!
usleep 100000
offload g2 hold,engage=always
stream not-read g2 --repeat 4
ended not-read
settled g2
kill $holder
# Readers that come and go while it is written.
stream come-and-go g2 --repeat 4
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  timeout 0.05 cat "$(log g2)" >/dev/null
done
ended come-and-go
settled g2
