// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tests/oracle/compare.h"

#include <algorithm>
#include <cstdio>

namespace vsnoop_oracle {
namespace {

constexpr u32 plain_ring = 256, plain_budget = 8u << 20, plain_records = 64;

struct Run {
  std::string failure, left;
  std::vector<Course> courses;
  Stage::Totals totals;

  Run(const Scenario& scenario, vsnoop_policy policy, int only = -1) {
    Stage stage(scenario, {.policy = policy, .only = only});
    failure = stage.run();
    left = stage.left_over();
    courses = stage.courses();
    totals = stage.totals();
  }
};

bool harms(FaultKind kind) {
  switch (kind) {
    case FaultKind::peer_vanishes:
    case FaultKind::guest_vanishes:
    case FaultKind::lie_little:
    case FaultKind::lie_far:
    case FaultKind::abort:
    case FaultKind::close:
    case FaultKind::peer_abort:
    case FaultKind::ring_gone:
      return true;
    default:
      return false;
  }
}

// A connection that its own fault ends may end in any way.
bool compared(const Scenario& scenario, size_t stream) {
  return std::none_of(scenario.events.begin(), scenario.events.end(), [&](const Event& event) {
    return (event.kind == FaultKind::ring_gone ||
            event.stream % scenario.streams.size() == stream) &&
           harms(event.kind);
  });
}

std::string seconds(u64 us) {
  if (us == never) return "never";
  char text[32];
  std::snprintf(text, sizeof text, "%.3f s", static_cast<double>(us) / 1e6);
  return text;
}

u64 since(const Course& course, u64 at) {
  return at == never ? never : at - std::min(at, course.start);
}

/// Why vsnoop did not promise, or ended it: what was said most often.
std::string reason_of(const Stage::Totals& totals) {
  static const u8 ends[] = {VSNOOP_REASON_failstop_giveup, VSNOOP_REASON_failstop_age,
                            VSNOOP_REASON_failstop_gone};
  for (u8 reason : ends)
    if (totals.reasons[reason]) return vsnoop_reason_name(reason);
  static const u8 refusals[] = {
      VSNOOP_REASON_guest_closed, VSNOOP_REASON_closing,      VSNOOP_REASON_quiescing,
      VSNOOP_REASON_guest_silent, VSNOOP_REASON_rst_pause,    VSNOOP_REASON_no_budget,
      VSNOOP_REASON_no_record,    VSNOOP_REASON_holes_full,   VSNOOP_REASON_not_taken,
      VSNOOP_REASON_redelivery,   VSNOOP_REASON_table_full,   VSNOOP_REASON_draining,
      VSNOOP_REASON_paws,         VSNOOP_REASON_out_of_window};
  u8 most = VSNOOP_REASON_none;
  for (u8 reason : refusals)
    if (totals.reasons[reason] && (!most || totals.reasons[reason] > totals.reasons[most]))
      most = reason;
  return most ? vsnoop_reason_name(most) : "-";
}

class Judge {
 public:
  Judge(const Scenario& scenario, Comparison& out) : scenario_(scenario), out_(out) {}

  // Returns the kind of difference; nothing if there is none.
  std::string connection(const char* against, const Course& off, const Run& run, size_t i,
                         bool counted) {
    const Course& policy = run.courses[i];
    if (counted) ++out_.connections;
    if (!off.well()) {
      if (counted) out_.only_policy += policy.well();
      return "";
    }
    const auto say = [&](const std::string& kind) {
      out_.differences.push_back(
          {kind, "stream " + std::to_string(i) + " " + kind + ": " + against + " last byte after " +
                     seconds(since(off, off.to_guest[Course::marks - 1])) + ", over after " +
                     seconds(since(off, off.over())) + "; with the policy " +
                     seconds(since(policy, policy.to_guest[Course::marks - 1])) + " and " +
                     seconds(since(policy, policy.over())) + " (" + reason_of(run.totals) +
                     ")\n  " + against + ": " + off.text + "\n  policy: " + policy.text});
      return kind;
    };
    if (!policy.well())
      return say(std::string("lost-") + name_of(policy.peer) + "-" + name_of(policy.guest) +
                 (policy.stopped ? "-stopped" : ""));
    if (counted) {
      ++out_.both;
      const u64 a = off.to_guest[Course::marks - 1], b = policy.to_guest[Course::marks - 1];
      out_.sooner += since(policy, b) < since(off, a);
      out_.later += since(policy, b) > since(off, a);
    }
    const bool is_plain = plain(scenario_);
    if (counted && is_plain) out_.slow += first_beyond(slow, off, policy) != never;
    if (!is_plain || first_late(off, policy) == never) return "";
    if (counted) ++out_.late;
    return say("late");
  }

  static u64 first_late(const Course& off, const Course& policy) {
    return first_beyond(late, off, policy);
  }

 private:
  // Each eighth of the bytes, the last with the FIN; the answer; the end: when the first of those
  // was reached with off that the policy reaches beyond the bound; never: none.
  static u64 first_beyond(const Bound& bound, const Course& off, const Course& policy) {
    const auto beyond = [&](u64 a, u64 b) { return !bound.holds(since(off, a), since(policy, b)); };
    // An eighth of slack: where a window closes is a matter of a segment.
    for (u32 k = 0; k < Course::marks; ++k) {
      const u64 next = off.to_guest[std::min(k + 1, Course::marks - 1)];
      if (off.to_guest[k] != never && beyond(next, policy.to_guest[k])) return next;
    }
    if (beyond(off.to_peer, policy.to_peer)) return off.to_peer;
    return beyond(off.over(), policy.over()) ? off.over() : never;
  }

  const Scenario& scenario_;
  Comparison& out_;
};

// Without the faults that only the slower of two runs lived to see: those after `at`.
Scenario until(const Scenario& scenario, u64 at) {
  Scenario less = scenario;
  std::erase_if(less.events, [&](const Event& event) {
    return event.kind != FaultKind::lose_to_guest && event.kind != FaultKind::corrupt_to_guest &&
           Stage::begins_us + event.at_us > at;
  });
  return less;
}

// The same with everything that comes at a time, and connection i, a little sooner or later.
Scenario shifted(const Scenario& scenario, size_t i, int64_t ms) {
  const auto later = [ms](int64_t at, int64_t unit) {
    return std::max<int64_t>(at + ms * unit, 0);
  };
  Scenario other = scenario;
  for (Event& event : other.events)
    event.at_us = static_cast<u64>(later(static_cast<int64_t>(event.at_us), 1000));
  other.streams[i].start_ms = static_cast<u32>(later(other.streams[i].start_ms, 1));
  return other;
}

constexpr size_t crowd = 30;  // connections: whose frames find a ring full is a lottery

// Whether it was a matter of milliseconds: `off` can fare as badly when a guest stops reading just
// before its last segment and not just after, or a SYN finds the ring full; in a crowd, somebody
// else did.
bool chance(const Scenario& scenario, Judge& judge, const Run& off_run, const Run& run, size_t i) {
  const auto slowest = std::max_element(
      off_run.courses.begin(), off_run.courses.end(),
      [](const Course& a, const Course& b) { return since(a, a.over()) < since(b, b.over()); });
  if (off_run.courses.size() >= crowd && judge.connection("off", *slowest, run, i, false).empty())
    return true;
  for (const int64_t ms : {-1, 1, -2, 2, -4, 4, -8, 8, -16, 16, -32, 32}) {
    const Run off(shifted(scenario, i, ms), VSNOOP_POLICY_OFF);
    if (off.failure.empty() && judge.connection("off", off.courses[i], run, i, false).empty())
      return true;
  }
  return false;
}

std::string first_words(const std::string& failure) {
  return failure.substr(0, std::min(failure.find(':'), failure.find(" (")));
}

}  // namespace

bool plain(const Scenario& s) {
  return s.ring >= plain_ring && s.budget >= plain_budget && !s.flow_budget && !s.total_budget &&
         s.custodies >= plain_records && s.flows >= s.streams.size();
}

Comparison compare(const Scenario& scenario, bool fresh) {
  Comparison out;
  const Run off(scenario, VSNOOP_POLICY_OFF);
  if (!off.failure.empty()) {
    out.differences.push_back({"oracle: " + first_words(off.failure), "off: " + off.failure});
    return out;
  }
  const Run run(scenario, VSNOOP_POLICY_HOLD);
  out.promised = run.totals.promised;
  if (!run.failure.empty()) {
    out.differences.push_back({first_words(run.failure), run.failure});
    return out;
  }
  Judge judge(scenario, out);
  for (size_t i = 0; i < scenario.streams.size(); ++i) {
    if (!compared(scenario, i)) continue;
    const size_t before = out.differences.size();
    if (judge.connection("off", off.courses[i], run, i, true).empty()) continue;
    // Of what is late, the first mark that is: the policy's run may have met a fault before it.
    const bool lost = out.differences.back().kind != "late";
    const u64 at = lost ? off.courses[i].over() : judge.first_late(off.courses[i], run.courses[i]);
    const Scenario less = until(scenario, at);
    const std::vector<Difference> was = out.differences;
    out.differences.resize(before);
    bool worse = true;
    if (less.events.size() != scenario.events.size()) {
      const Run again(less, VSNOOP_POLICY_HOLD);
      worse = !again.failure.empty() ||
              !judge.connection("off", off.courses[i], again, i, false).empty();
    }
    out.differences.resize(before);
    worse = worse && !chance(scenario, judge, off, run, i);
    out.differences.resize(before);
    if (worse) out.differences = was;
  }
  if (!fresh) return out;
  for (size_t i = 0; i < scenario.streams.size(); ++i) {
    if (!compared(scenario, i)) continue;
    const Run alone(scenario, VSNOOP_POLICY_HOLD, static_cast<int>(i));
    if (!alone.failure.empty()) {
      out.differences.push_back({first_words(alone.failure), "alone: " + alone.failure});
      continue;
    }
    judge.connection("alone", alone.courses[i], run, i, false);
    const u32 a = alone.courses[i].widest, b = run.courses[i].widest;
    if (b + 4096 < a / 4 * 3)
      out.differences.push_back({"window", "stream " + std::to_string(i) +
                                               " window: " + std::to_string(a) + " alone, " +
                                               std::to_string(b) + " after the others"});
  }
  if (!run.left.empty()) out.differences.push_back({"left", "left over: " + run.left});
  return out;
}

}  // namespace vsnoop_oracle
