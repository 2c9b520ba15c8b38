// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/xen/control.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace vsnoop::xen {
namespace {

constexpr uint64_t kMillisecond = 1'000'000;
// The module says nothing when a new setting leaves its state as it was: then silence for so long
// is its consent.
constexpr uint64_t kSilence = 500 * kMillisecond;
// Counters change without a word in xenstore.
constexpr uint64_t kLook = 100 * kMillisecond;
constexpr uint64_t kResetTime = 5'000 * kMillisecond;

// Of BACKEND/vsnoop/quiesce.
const char* const kDrain = "1";
const char* const kReset = "2";

enum class Progress { pending, done, refused };

// Waits until no vif is pending any more.
class Wait {
 public:
  Wait(XenHost& host, std::vector<Vif> vifs)
      : host_(host), start_(host.now_ns()), vifs_(std::move(vifs)) {
    for (const Vif& vif : vifs_) host_.watch(vif.backend + "/vsnoop-state");
  }

  const std::vector<Vif>& vifs() const { return vifs_; }
  uint64_t elapsed() const { return host_.now_ns() - start_; }

  Outcome run(uint64_t timeout_ns, const std::function<Progress(const Vif&)>& progress) {
    const uint64_t until = host_.now_ns() + timeout_ns;
    for (;;) {
      std::erase_if(vifs_, [&](Vif& vif) { return !refresh(host_, vif); });
      bool pending = false, refused = false;
      for (const Vif& vif : vifs_) {
        const Progress its = progress(vif);
        pending |= its == Progress::pending;
        refused |= its == Progress::refused;
      }
      if (!pending) return refused ? Outcome::refused : Outcome::done;
      const uint64_t now = host_.now_ns();
      if (now >= until) return Outcome::timed_out;
      host_.wait(std::min(until, now + kLook));
    }
  }

  Result result(Outcome outcome) const {
    return {outcome, static_cast<double>(elapsed()) * 1e-9, vifs_};
  }

 private:
  XenHost& host_;
  uint64_t start_;
  std::vector<Vif> vifs_;
};

bool drained(XenHost& host, const Vif& vif) {
  switch (state_of(vif.state)) {
    case State::off:
    case State::quiesced:
      return true;
    case State::waiting:  // custody may outlive a frontend that went
    case State::error: {  // off for that reason, or still as it was before a mistaken setting
      const Counters counters = vif_counters(host, vif);
      return counter(counters, "outstanding") == 0 &&
             (state_of(vif.state) == State::waiting || counter(counters, "flows") == 0);
    }
    default:
      return false;
  }
}

}  // namespace

const char* outcome_name(Outcome outcome) {
  switch (outcome) {
    case Outcome::done:
      return "done";
    case Outcome::refused:
      return "refused";
    case Outcome::timed_out:
      return "timed out";
    case Outcome::aborted:
      return "aborted";
    case Outcome::reset:
      break;
  }
  return "reset";
}

Result apply_setting(XenHost& host, std::vector<Vif> vifs, const Setting& setting,
                     uint64_t timeout_ns) {
  const std::vector<Vif> before = vifs;
  const State target = state_of(setting.policy);
  Wait wait(host, std::move(vifs));
  for (const Vif& vif : before) host.write(vif.backend + "/vsnoop", setting.text());

  return wait.result(wait.run(timeout_ns, [&](const Vif& vif) {
    const auto old = std::find_if(before.begin(), before.end(),
                                  [&](const Vif& other) { return other.backend == vif.backend; });
    const State state = state_of(vif.state);
    const bool answered = vif.state != old->state || wait.elapsed() >= kSilence;
    if (state == State::error) return answered ? Progress::refused : Progress::pending;
    const bool has_it = state == target || state == State::waiting ||
                        (state == State::quiesced && vif.quiesce && target != State::off);
    return has_it && answered ? Progress::done : Progress::pending;
  }));
}

Result quiesce(XenHost& host, std::vector<Vif> vifs, uint64_t timeout_ns, bool reset) {
  Wait wait(host, std::move(vifs));
  const auto ask = [&](const char* what) {
    for (const Vif& vif : wait.vifs()) host.write(vif.backend + "/vsnoop/quiesce", what);
  };
  const auto progress = [&](const Vif& vif) {
    return drained(host, vif) ? Progress::done : Progress::pending;
  };
  ask(kDrain);
  if (wait.run(timeout_ns, progress) == Outcome::done) return wait.result(Outcome::done);
  if (reset) {
    ask(kReset);
    if (wait.run(kResetTime, progress) == Outcome::done) return wait.result(Outcome::reset);
  }
  for (const Vif& vif : wait.vifs()) host.remove(vif.backend + "/vsnoop/quiesce");
  return wait.result(Outcome::aborted);
}

Result resume(XenHost& host, std::vector<Vif> vifs, uint64_t timeout_ns) {
  Wait wait(host, std::move(vifs));
  for (const Vif& vif : wait.vifs()) host.remove(vif.backend + "/vsnoop/quiesce");
  return wait.result(wait.run(timeout_ns, [](const Vif& vif) {
    const State state = state_of(vif.state);
    return state == State::quiescing || state == State::quiesced ? Progress::pending
                                                                 : Progress::done;
  }));
}

}  // namespace vsnoop::xen
