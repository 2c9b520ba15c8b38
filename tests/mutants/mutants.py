#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Deliberate one-line faults in snoop-core and flowtable: a rule dropped, a comparison turned, a cap ignored.
Each is put into a copy of the sources, built, and must be caught by the unit tests, by the courses
of the model or by the promise oracle, as `make test` runs them. Prints a table; status 1 if a fault
is not caught. The oracle, which takes longest, is asked if the others have not caught it.

  mutants.py [--oracle] [NAME]...      only these; --oracle: it is always asked
  mutants.py --check                   whether the sources are such that it could run
  mutants.py --kinds                   each mend that KINDS names taken out: does the differential
                                       oracle find it?
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TREE = ROOT / "build" / "mutants" / "tree"
BUILD = ROOT / "build" / "mutants" / "build"
COPIED = ("CMakeLists.txt", "flowtable", "snoop-core", "tools", "tests",
          "xen-netback-patch/module")
COURSES = ROOT / "build" / "mutants" / "courses"
# As many as `make test` runs in its release build.
SCENARIOS = re.search(r"set\(scenarios (\d+)\)",
                      (ROOT / "tests/oracle/CMakeLists.txt").read_text())[1]

# Name, rule, file seen from snoop-core, the line's part that goes, what comes instead.
MUTANTS = (
    ("urgent", "P10", "from_peer.cc", "if (s.has(URG))", "if (false)"),
    ("no-ack-flag", "P10", "from_peer.cc", "if (!s.has(ACK)) return forward",
     "if (false) return forward"),
    ("paws", "P10", "from_peer.cc",
     "if (s.has_ts() && older(s.tsval, flow.ts_recent) &&",
     "if (s.has_ts() && older(flow.ts_recent, s.tsval) &&"),
    ("ack-range", "P10", "from_peer.cc", "return !after(s.ack, flow.guest_snd_nxt) && after(",
     "return after("),
    ("bad-checksum", "P10", "from_peer.cc", "if (VSNOOP_UNLIKELY(!verified || (s.flags",
     "if (VSNOOP_UNLIKELY((s.flags"),
    ("sent-guessed", "P10", "from_peer.cc", "if (VSNOOP_LIKELY(known_ack)) note_sent(flow, s);",
     "note_sent(flow, s);"),
    ("sent-creeps", "P10", "from_peer.cc",
     "shrunk ? later(flow.right_edge, flow.peer_nxt) : flow.right_edge",
     "later(flow.right_edge, flow.peer_nxt)"),
    ("shrunk-forgotten", "P10", "from_guest.cc", "  flow.clear(flow_guest_rested);",
     "  flow.clear(opens ? flow_guest_rested | flow_shrunk : flow_guest_rested);"),
    ("speaks-behind", "I4", "from_peer.cc",
     "if (!flow.is(flow_touched) || flow.is(flow_guest_ahead))", "if (!flow.is(flow_touched))"),
    ("odd-option", "P12", "from_peer.cc", "if (in_window) return bypass",
     "if (false) return bypass"),
    ("odd-option-guessed", "P12", "from_peer.cc", "if (in_window) return bypass",
     "if (true) return bypass"),
    ("fin-guessed", "P7", "from_peer.cc",
     "if (before(s.end(), flow.rcv_nxt)) return forward", "if (false) return forward"),
    ("clock-guessed", "P0", "from_peer.cc", "if (before(s.end(), flow.guest_ack)) return;  //",
     "//"),
    ("half-open-guessed", "P8", "learn.cc",
     "if (embryo->flags & embryo_complete) return VSNOOP_REASON_syn;", ""),
    ("rested-guest", "early ACK", "from_peer.cc", "flow.set(flow_guest_rested | flow_peer_rested);",
     "flow.set(flow_peer_rested);"),
    ("rested-peer", "P10", "from_peer.cc", "flow.set(flow_guest_rested | flow_peer_rested);",
     "flow.set(flow_guest_rested);"),
    ("raised-over-rest", "re-delivery", "from_peer.cc",
     "if (custody && flow.early_ack == flow.guest_ack) custody->tsval_raised = false;", ""),
    ("newest-over-rest", "re-delivery", "from_peer.cc",
     "if (older(custody.newest_tsval, s.tsval) || flow.is(flow_peer_rested))",
     "if (older(custody.newest_tsval, s.tsval))"),
    ("spoofed-handshake", "P8", "learn.cc", "!s.has(ACK) || s.ack != embryo.guest_iss + 1 ||",
     "!s.has(ACK) ||"),
    ("reset-number", "P9", "from_peer.cc", "if (s.seq == flow.rcv_nxt) {",
     "if (s.seq == flow.guest_ack) {"),
    ("reset-pause", "P9", "from_peer.cc", "flow.set(flow_rst_pause);", ""),
    ("reset-overtakes", "P9", "custody.cc",
     "return !flow || !(custody.wait_head->flags & held_rst) ||",
     "return true || !(custody.wait_head->flags & held_rst) ||"),
    ("fin-promises", "P7", "from_peer.cc",
     "if (reached && flow.is(flow_peer_fin) && flow.state == VSNOOP_FLOW_ACTIVE)", "if (false)"),
    ("fin-above-hole-closes", "P7", "from_peer.cc", "const bool reached = !after(s.seq, flow.rcv_nxt);",
     "const bool reached = true;"),
    ("beyond-fin", "P7", "from_peer.cc",
     "if (VSNOOP_UNLIKELY(flow.is(flow_peer_fin)) && !before(s.end(), flow.peer_nxt) && !s.has(FIN))",
     "if (false)"),
    ("syn-renews", "P9", "from_peer.cc", "if (custody && custody->reset_held) renew(",
     "if (custody) renew("),
    ("new-connection-waits", "P9", "custody.cc", "|| custody.renewed ||", "||"),
    ("syn-behind-reset-dropped", "P9", "custody.cc", "if (goes_on && !held->flags) {",
     "if (false) {"),
    ("late-syn-ack", "P8", "learn.cc",
     "return !its_number || (s.has(ACK) && after(s.ack, flow.guest_ack));", "return true;"),
    ("silent-end", "I3", "learn.cc", "flow.early_ack != flow.guest_ack && ending != Ending::by_peer &&",
     "false &&"),
    ("reset-of-another", "G6", "from_guest.cc",
     "if (!before(seq, flow.peer_una) && !after(seq, flow.guest_snd_nxt))", "if (true)"),
    ("reset-once", "fail-stop", "life.cc", "custody->tomb = true;", ""),
    ("reset-at-one-number", "fail-stop", "emit.cc", "const bool other = custody.tries & 1;",
     "const bool other = false;"),
    ("resets-answer-each-other", "fail-stop", "life.cc",
     "if (!news && at - flow.sample_time < tomb_answer_us) return false;", ""),
    ("tomb-ends-for-any", "fail-stop", "from_peer.cc",
     "if (custody && (s.seq == flow.rcv_nxt || s.seq == flow.peer_nxt))", "if (custody)"),
    ("tomb-misdirected", "fail-stop", "from_peer.cc", "custody.answer_at = flow.sample_seq = s.ack;",
     "custody.answer_at = flow.sample_seq = flow.peer_una = s.ack;"),
    ("tomb-for-any-syn-ack", "fail-stop", "from_peer.cc", "if (s.has(ACK) && answered(s))",
     "if (s.has(ACK))"),
    ("probe-is-no-progress", "give-up", "from_guest.cc",
     "if (edge == s.ack) custody->progress_at = scene.now;", ""),
    ("gives-up-too-soon", "give-up", "face.cc", "config->giveup_us = 1000000000;",
     "config->giveup_us = 60000000;"),
    ("window-never-back", "I2, I4", "from_guest.cc", "take_window_back(flow, guest, edge);", ";"),
    ("closed-and-swallowed", "I4", "from_guest.cc",
     "flow.set(flow_credit);\n  settle_reservation", "settle_reservation"),
    ("no-hand-back", "hand-back", "from_peer.cc",
     "if (reason == VSNOOP_REASON_above_hole || !eases_out(flow, guest, pause))", "if (true)"),
    ("hand-back-promises", "hand-back", "from_peer.cc",
     "promise ? verdict_data | verdict_promise : verdict_data);",
     "verdict_data | verdict_promise);"),
    ("in-no-time", "G7", "custody.cc",
     "custody.fresh = later(custody.fresh, custody.shown_top);", ""),
    ("block-at-ack", "G7", "from_guest.cc", "if (!after(left, shown.ack) ||",
     "if (!after(right, shown.ack) ||"),
    ("sparse-first-for-ever", "FIFO", "custody.cc",
     "if (sparse && guest->feed_old != no_custody) {", "if (false) {"),
    ("slots-for-nothing", "FIFO", "custody.cc", "custody.deficit -= bytes < slot ? slot : bytes;",
     "custody.deficit -= bytes;"),
    ("old-tsecr", "re-delivery", "custody.cc", "edit.what |= VSNOOP_EDIT_TSECR;", ""),
    ("latest-tsval", "early ACK", "from_peer.cc", "if (!ack_waits && at_or_before(s.seq, flow.early_ack) &&", "if (at_or_before(s.seq, flow.early_ack) &&"),
    ("d-sacks-for-life", "G7", "from_guest.cc", "flow.clear(flow_redelivered);", ""),
    ("waiters-keep-records", "I7", "promise.cc", "if (may_go) {", "if (false) {"),
    ("half-the-space", "G1", "seq.h", "return after(b, a) ? b : a;", "return before(a, b) ? b : a;"),
    ("beyond-guests-window", "P6, I2", "from_peer.cc",
     "if (after(s.seq, flow.right_edge) || after(s.end(), flow.right_edge))", "if (false)"),
    ("beyond-shown-window", "P6, I2b", "from_peer.cc",
     "if (s.payload && after(s.end(), flow.shown_edge)) {",
     "if (false) {"),
    ("probe-by-vsnoop", "P6", "from_peer.cc",
     "bytes_between(flow.early_ack, flow.shown_edge) < flow.mss;", "true;"),
    ("duplicate-with-news", "P3, I6", "from_peer.cc",
     "if (!answered || guest_may_lack_it || scene.news)",
     "if (!answered || guest_may_lack_it)"),
    ("misplaced-range", "P4", "promise.cc",
     "const bool misplaced = (verdict.flags & verdict_data) &&",
     "const bool misplaced = false &&"),
    ("ts-recent", "P0", "from_peer.cc",
     "if (!ack_waits && at_or_before(s.seq, flow.early_ack) &&", "if (!ack_waits &&"),
    ("guest-closed", "G8", "promise.cc", "if (flow.is(flow_guest_fin)) return",
     "if (false) return"),
    ("quiesce", "-", "promise.cc", "if (guest.quiescing) return", "if (false) return"),
    ("liveness", "-", "promise.cc", "if (silent(guest, now)) return", "if (false) return"),
    ("credit", "G4, I6", "from_guest.cc", "!flow.is(flow_credit) &&\n", "\n"),
    ("keep-alive", "G4, I6", "from_guest.cc", "if (pure && at_snd_nxt &&", "if (pure &&"),
    ("window-opening", "G4, I6", "from_guest.cc", "!fresh_sack && !opens_window(flow, guest))",
     "!fresh_sack)"),
    ("sack-news", "G4, I6", "from_guest.cc", "!fresh_sack && !opens_window(flow, guest))",
     "!opens_window(flow, guest))"),
    ("rebase-ack", "G2, I4", "from_guest.cc", "const Seq ack = later(s.ack, flow.early_ack);",
     "const Seq ack = s.ack;"),
    ("rebase-window", "G2, I2b", "from_guest.cc",
     "bytes_between(ack, flow.shown_edge) >> flow.guest_shift();",
     "bytes_between(ack, flow.right_edge) >> flow.guest_shift();"),
    ("ack-never-sent", "G1", "from_guest.cc", "if (after(s.ack, flow.peer_nxt)) {", "if (false) {"),
    ("duplicate-acks", "G7", "from_guest.cc", "++custody.dup_acks;", "custody.dup_acks = 0;"),
    ("one-at-a-time", "G7", "custody.cc", "const u32 grown = custody.burst + arrived;",
     "const u32 grown = 1;"),
    ("lost-twice", "G7", "custody.cc", "const bool all = after(shown.top, custody.fresh);",
     "const bool all = false;"),
    ("no-halving", "G7", "custody.cc", "custody.burst = custody.burst > 1 ? custody.burst / 2 : 1;",
     "custody.burst = custody.burst;"),
    ("burst-unbounded", "G7", "custody.cc", "return custody.flying.count < custody.burst &&",
     "return"),
    ("lost-while-in-ring", "G7", "custody.cc",
     "} else if ((proven || cut) && held->state == VSNOOP_HELD_DELIVERED) {",
     "} else if (proven || cut) {"),
    ("missing-while-in-ring", "G7", "custody.cc",
     "if (held->state != VSNOOP_HELD_DELIVERED) return;\n      if (custody.again", "if (custody.again"),
    ("reneged", "G7", "custody.cc",
     "if (custody.recovering == recovery_holes && custody.judged && !(head->flags & held_again) &&",
     "if (false &&"),
    ("proof-of-all", "G7", "custody.cc", "if (held == proof) proven = all;", ""),
    ("without-sack", "G7", "custody.cc", "else if (unexpected && !shown.blocks)",
     "else if (false)"),
    ("cut-at-window", "G7", "custody.cc",
     "const bool cut = progress && after(shown.ack, Seq(held->seq));", "const bool cut = false;"),
    ("beyond-present-window", "G7", "custody.cc",
     "(before(begin, custody.present_edge) || !after(begin, flow.guest_ack));", "true;"),
    ("freed-too-early", "I3", "custody.cc", "!after(end_of(*custody->line_head), flow.guest_ack)",
     "!after(end_of(*custody->line_head), flow.early_ack)"),
    ("no-redelivery", "I3", "life.cc", "if (promised && redeliverable(*flow, custody)) {",
     "if (false) {"),
    ("old-timestamp", "re-delivery", "custody.cc", "edit.what |= VSNOOP_EDIT_TSVAL;", ""),
    ("redelivered-whole", "re-delivery", "custody.cc", "if (feed.keep > window) feed.keep =",
     "if (false) feed.keep ="),
    ("freed-in-ring", "custody", "custody.cc", "if (held->state == VSNOOP_HELD_RING) {",
     "if (false) {"),
    ("guest-cap", "I7", "promise.cc",
     "if (guest.stats.held + charged > guest.config.budget) return false;", ""),
    ("total-cap", "I7", "promise.cc",
     "if (config_.budget && held_ + charged > config_.budget) return false;", ""),
    ("flow-cap", "I7", "promise.cc", "custody->held + charged <= guest.config.flow_budget;",
     "true;"),
    ("reservation", "I2b", "promise.cc", "if (all <= entry) return free;",
     "if (all > 0) return flow.right_edge;"),
    ("declined-overtakes", "FIFO", "promise.cc",
     "const bool must_wait = behind || (verdict.flags & verdict_rst);",
     "const bool must_wait = false;"),
    ("reset-seq", "fail-stop", "emit.cc", "write_reset(*flow, key, false, number, frame)",
     "write_reset(*flow, key, false, number + 1, frame)"),
    ("early-ack-seq", "early ACK", "emit.cc",
     "earlier(flow.guest_snd_nxt, flow.peer_edge).raw", "flow.guest_snd_nxt.raw"),
    ("ranges-pinned", "I7", "life.cc", "if (!promised && since > ranges_life_us) return",
     "if (false) return"),
    ("let-go-forgotten", "P5", "life.cc", "custody.passed = flow.peer_nxt;", ""),
    ("nothing-to-let-go", "-", "life.cc",
     "if (!custody->line_head && !custody->range_count) return false;",
     "if (!custody->frames && !custody->range_count) return false;"),
    ("records-pinned", "I7", "life.cc", "} else if (ranges_at_rest(*flow, now)) {",
     "} else if (false) {"),
    ("ranges-hold-room", "I7", "learn.cc", "released && ranges_at_rest(flow, now)", "false"),
    ("no-eviction", "I7", "learn.cc", "if (oldest.is_null()) return;", "return;"),
    ("any-eviction", "I7", "learn.cc", "if (counts && silent > longest) {", "if (counts) {"),
    ("answers-unlimited", "P3", "from_peer.cc",
     "if (now - flow.answered_at < answer_interval_us) return true;", ""),
    ("always-in-a-hurry", "-", "promise.cc", "const bool searched = fruitless_ >= table_.capacity();",
     "const bool searched = false;"),
    ("jumbo", "re-delivery", "edit.cc", "if (payload <= 0xffff) ip[at] = padn;", ""),
    ("own-time-outs", "G7", "custody.cc", "flow->clear(flow_sampling);", ""),
    ("scaled-away", "early ACK", "promise.cc",
     "return left >= flow.mss && as_seen(flow, left) < left / 2;", "return false;"),
    ("rounded-opening", "G4", "from_guest.cc",
     "as_seen(flow, bytes_between(flow.early_ack, flow.shown_edge)) <",
     "bytes_between(flow.early_ack, flow.shown_edge) <"),
    ("update-of-nothing", "I2b", "promise.cc", "if (!after(edge, flow.shown_edge)) return 0;",
     "if (true) return bytes_between(flow.shown_edge, edge);"),
    ("dearer-unpaid", "I2b", "promise.cc", "top_up(*flow, guest);\n      update = worth_an_update",
     "update = worth_an_update"),
    ("sack-order", "P4", "emit.cc", "range.newest - other.newest) > 0;", "0) > 0;"),
    ("sack-untold", "P4", "emit.cc", "unsaid(*flow, custody) ? u8(owed_sack) : u8(0);",
     "false ? u8(owed_sack) : u8(0);"),
    ("sack-twice", "P4, G4", "from_guest.cc",
     "return speaks_at_hole(flow, scene.guest, *custody);", "return false;"),
    ("phantom-hole", "P4", "promise.cc",
     "flow.is(flow_sack) && !after(custody.passed, flow.rcv_nxt);", "flow.is(flow_sack);"),
    ("into-passed", "P5", "from_peer.cc", "meets_passed(scene))\n", "false)\n"),
    ("block-at-raised-ack", "G2", "edit.cc", "if (!after(left, ack)) continue;",
     "if (!after(right, ack)) continue;"),
    ("forwarder", "P12", "learn.cc",
     "return hops == 64 || hops == 128 ||", "return true || hops == 128 ||"),
    ("narrow-untold", "G9", "narrow.cc", "v.edit.ack = flow.early_ack.raw;",
     "v.edit.ack = said.seq.raw;"),
    ("narrow-guessed", "G9", "narrow.cc", "before(said.seq, scene.flow->guest_ack) ||", ""),
    ("narrow-whole", "G9", "narrow.cc", "if (flow.is(flow_narrow) && feed.keep > payload_of(flow)) {",
     "if (false) {"),
    ("narrow-lost", "G9", "narrow.cc", "find_missing(flow, *custody, Shown(flow.guest_ack));", ""),
    ("narrow-unprobed", "G9", "narrow.cc", "if (probe && feed.keep > probe) feed.keep = probe;", ""),
    ("wide-products", "I2b", "promise.cc", "return static_cast<u64>(bytes) * cost >> 4; }",
     "return bytes * cost >> 4; }"),
    ("vlan", "P12", "segment.cc", "vlan = vlan << 16 | own;", "vlan = 0 * own;"),
    ("option-length", "parse", "segment.cc", "if (length < 2 || length > end - at) return false;",
     "if (length < 2) return false;"),
    # The flow table
    ("table-vectors-passed", "table", "../flowtable/flow_table.h",
     "__builtin_ia32_pmovmskb128(same)) & 0x7fff", "__builtin_ia32_pmovmskb128(same))"),
    ("table-scalar-passed", "table", "../flowtable/flow_table.h",
     "(zero_bytes(high ^ same) & 0x7f) << 8", "zero_bytes(high ^ same) << 8"),
    ("table-passed-stays", "table", "../flowtable/flow_table.h", "--buckets_[bucket].passed;", ""),
    ("table-far", "table", "../flowtable/flow_table.h",
     "if (distance >= far || distance == probes_)", "if (distance == probes_)"),
    ("table-alike", "table", "../flowtable/flow_table.h", "    return set != 0;", "    return false;"),
    ("table-forgets-quick", "table", "../flowtable/flow_table.h",
     "if (quickly_placed_ == 0) return absent;", "return absent;"),
    ("table-quick-in-vain", "table", "../flowtable/flow_table.h",
     "return (buckets_[home].passed | quickly_placed_) == 0;",
     "return buckets_[home].passed == 0;"),
    ("table-which-hash", "table", "../flowtable/flow_table.h",
     "return slots_[bucket].by_siphash >> entry & 1;", "return true;"),
    ("table-generation", "table", "../flowtable/flow_table.h",
     "    set_generation(record, next_generation(record));", ""),
    ("table-vlan", "table", "../flowtable/flow_table.h", " | (record.vlan ^ key.vlan)", ""),
    ("table-hash-vlan", "table", "../flowtable/flow_key.h", "(key.vlan + k[5])", "k[5]"),
)

# In what ways somebody was worse off than with the offload off; the fault that takes the mend out;
# the world of the differential oracle and the seed that find it.
KINDS = (
    ("a guest that hears nothing for a minute is reset", "gives-up-too-soon", "deaf", 68),
    ("after an hour's rest, a timestamp from before it", "rested-guest", "hours", 33),
    ("tenants with equal addresses on two VLANs", "vlan", "tenants", 4),
    ("ranges of peers that vanished stay for ever", "ranges-pinned", "vanish", 4),
    ("a link with a small MTU behind a guest that forwards", "narrow-whole", "forwards", 4),
    ("window updates that say nothing, one for each ACK of another connection", "dearer-unpaid",
     "tiny", 3512153),
    ("frames raised to a timestamp from before the rest", "raised-over-rest", "hours", 32664),
    ("what a guest takes back of its window is promised all the same", "window-never-back",
     "closed", 132),
    ("a promise ends without a reset", "silent-end", "gone", 89),
    ("the reset that the network loses is not repeated", "reset-once", "gone", 89),
    ("products of bytes and cost do not fit into 32 bits", "wide-products", "tiny", 231),
)


def run(command, timeout, **options):
    return subprocess.run(command, timeout=timeout, text=True, errors="replace",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options)


def build():
    return run(["cmake", "--build", BUILD, "--target", "unit-tests", "oracle", "differential"], 1800)


def unit_tests():
    """The name of the first unit test that fails, or None."""
    try:
        # (The XML reporter takes for itself the streams that the test of `-w -` looks at.)
        said = run([BUILD / "tests" / "unit-tests", "--abort", "-r", "xml", "~replay: -w -*"], 300,
                   cwd=TREE)
    except subprocess.TimeoutExpired:
        return "unit tests hang"
    if said.returncode == 0:
        return None
    names = re.findall(r'<TestCase name="([^"]*)"', said.stdout)
    return names[-1] if names else f"unit tests end with status {said.returncode}"


def courses():
    """Whether the engine leaves the model's courses, or None."""
    said = run([BUILD / "tests" / "unit-tests", "packets: scripts of others*"], 120, cwd=TREE,
               env=os.environ | {"VSNOOP_PKT_DIR": str(COURSES / "good")})
    return "the model's courses" if said.returncode else None


def oracle():
    try:
        said = run([BUILD / "tests" / "oracle" / "oracle", "--seed", "1", "--scenarios", SCENARIOS],
                   600)
    except subprocess.TimeoutExpired:
        return "promise oracle: hangs"
    if said.returncode == 0:
        return None
    what = re.search(r"oracle: seed \d+: ([^(;#]{0,70})", said.stdout)
    return "promise oracle: " + (what[1].strip(" :") if what else f"status {said.returncode}")


def differential(world, seed):
    """What the scenario of a seed shows, made small; or None."""
    try:
        said = run([BUILD / "tests" / "oracle" / "differential", "--world", world, "--seed", str(seed),
                    "--scenarios", "1"], 600)
    except subprocess.TimeoutExpired:
        return "hangs"
    what = re.search(r"differential: world \w+ seed \d+: ([^:;(#]{0,70})", said.stdout)
    return what[1].strip() if what else None


def with_fault(mutant, ask):
    """The compiler's or ask()'s findings on the sources with a fault in them."""
    path = TREE / "snoop-core" / mutant[2]
    whole = path.read_text()
    path.write_text(whole.replace(mutant[3], mutant[4]))
    try:
        return ["the compiler"] if build().returncode else ask()
    finally:
        path.write_text(whole)


def kinds():
    """The table of docs/safety.md; status 1 if a kind is not found."""
    prepare()
    missed = 0
    print("| worse off | fault | found by `differential` | what it says |\n|---|---|---|---|")
    for kind, name, world, seed in KINDS:
        mutant = next(m for m in MUTANTS if m[0] == name)
        found = with_fault(mutant, lambda: [differential(world, seed)])[0]
        missed += not found
        print(f"| {kind} | {name} | `--world {world} --seed {seed}` | {found or '**nothing**'} |",
              flush=True)
    print(f"{len(KINDS) - missed} of {len(KINDS)} kinds are found")
    sys.exit(1 if missed else 0)


def prepare():
    """A copy of the sources, without what the tests do not need; only what changed is copied."""
    TREE.mkdir(parents=True, exist_ok=True)
    for old in TREE.rglob("*"):
        if old.is_file() and not (ROOT / old.relative_to(TREE)).exists():
            old.unlink()
    for name in COPIED:
        source, target = ROOT / name, TREE / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
            continue
        for path in source.rglob("*"):
            copy = target / path.relative_to(source)
            if path.is_dir():
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            wanted = path.read_bytes()
            if path == ROOT / "snoop-core" / "CMakeLists.txt":
                # What a fault leaves unused is a warning; the tests are to find it.
                wanted += b"target_compile_options(snoop-core PRIVATE -Wno-error)\n"
            if not copy.exists() or copy.read_bytes() != wanted:
                copy.write_bytes(wanted)
                shutil.copymode(path, copy)
    done = run(["cmake", "-S", TREE, "-B", BUILD, "-G", "Ninja", "-DCMAKE_C_COMPILER=gcc",
                "-DCMAKE_CXX_COMPILER=g++"], 300)
    if done.returncode:
        sys.exit(f"mutants.py: {done.stdout[-2000:]}")
    done = build()
    if done.returncode:
        sys.exit(f"mutants.py: the unchanged sources do not build:\n{done.stdout[-3000:]}")
    done = run([ROOT / "tests" / "model" / "model_test.py", "--play", BUILD / "tests" / "unit-tests",
                COURSES], 600)
    if done.returncode:
        sys.exit(f"mutants.py: the unchanged sources fail: {done.stdout}")
    for test in (unit_tests, courses, oracle):
        if caught := test():
            sys.exit(f"mutants.py: the unchanged sources fail: {caught}")


def check():
    """Whether all faults are in their places, and what is copied includes nothing that is not."""
    faults = [f"{name}: '{old}' does not stand in {file} exactly once"
              for name, _, file, old, _ in MUTANTS
              if (ROOT / "snoop-core" / file).read_text().count(old) != 1]
    for path in [path for name in COPIED for path in (ROOT / name).rglob("*.[ch]*")]:
        faults += [f"{path.relative_to(ROOT)} includes {header}, which is not in COPIED"
                   for header in re.findall(r'^#include "([^"]*/[^"]*)"', path.read_text(), re.M)
                   if (ROOT / header).exists() and not header.startswith(COPIED)]
    print("\n".join(faults) or f"{len(MUTANTS)} faults, all in their places")
    sys.exit(1 if faults else 0)


def main():
    if "--check" in sys.argv[1:]:
        check()
    if "--kinds" in sys.argv[1:]:
        kinds()
    names = [word for word in sys.argv[1:] if word != "--oracle"]
    chosen = [mutant for mutant in MUTANTS if not names or mutant[0] in names]
    if not chosen:
        sys.exit("mutants.py: no such fault; there are: " + " ".join(m[0] for m in MUTANTS))
    for name, _, file, old, _ in chosen:
        if (ROOT / "snoop-core" / file).read_text().count(old) != 1:
            sys.exit(f"mutants.py: {name}: '{old}' does not stand in {file} exactly once")
    print("building the unchanged sources", flush=True)
    prepare()
    escaped = []
    print("| fault | rule | file | caught by |\n|---|---|---|---|", flush=True)
    for name, rule, file, old, new in chosen:
        began = time.monotonic()

        def ask():
            found = [found for found in (unit_tests(), courses()) if found]
            if not found or "--oracle" in sys.argv[1:]:
                found += filter(None, [oracle()])
            return found
        caught = with_fault((name, rule, file, old, new), ask)
        if not caught:
            escaped.append(name)
        print(f"| {name} | {rule} | `{file}` | {'; '.join(caught) or '**nothing**'} |", flush=True)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    print(f"{len(chosen) - len(escaped)} of {len(chosen)} faults are caught"
          + (f"; not: {' '.join(escaped)}" if escaped else ""))
    sys.exit(1 if escaped else 0)


main()
