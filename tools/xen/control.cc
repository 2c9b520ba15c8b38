// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/xen/control.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace vsnoop::xen {
namespace {

constexpr uint64_t kMillisecond = 1'000'000;
// Of a module that does not say which setting it has taken (before `vsnoop-taken`), silence for so
// long is consent.
constexpr uint64_t kSilence = 500 * kMillisecond;
// Counters change without a word in xenstore.
constexpr uint64_t kLook = 100 * kMillisecond;
constexpr uint64_t kResetTime = 5'000 * kMillisecond;

// The module's key, and what it says.
const char* const kQuiesce = "vsnoop/quiesce";
const char* const kDrain = "1";
const char* const kReset = "2";

enum class Progress { pending, done, refused };

// Vifs that are told something, and waited for until none is pending any more.
class Wait {
 public:
  Wait(XenHost& host, std::vector<Vif> vifs)
      : host_(host), start_(host.now_ns()), vifs_(std::move(vifs)) {
    for (const Vif& vif : vifs_)
      for (const char* key : {"/vsnoop-state", "/vsnoop-taken"}) host_.watch(vif.backend + key);
  }

  uint64_t elapsed() const { return host_.now_ns() - start_; }

  // Writes or removes a key of each.
  void tell(const std::string& key, const std::optional<std::string>& value) {
    keep_if([&](Vif& vif) { return put(host_, vif, key, value); });
  }

  Outcome run(uint64_t timeout_ns, const std::function<Progress(const Vif&)>& progress) {
    const uint64_t until = host_.now_ns() + timeout_ns;
    for (;;) {
      keep_if([&](Vif& vif) { return refresh(host_, vif); });
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
    const bool fine = outcome == Outcome::done || outcome == Outcome::reset;
    return {fine && !gone_.empty() ? Outcome::gone : outcome, static_cast<double>(elapsed()) * 1e-9,
            vifs_, gone_};
  }

 private:
  void keep_if(const std::function<bool(Vif&)>& is_here) {
    std::erase_if(vifs_, [&](Vif& vif) {
      if (is_here(vif)) return false;
      gone_.push_back(vif);
      return true;
    });
  }

  XenHost& host_;
  uint64_t start_;
  std::vector<Vif> vifs_, gone_;
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
      return "reset";
    case Outcome::gone:
      break;
  }
  return "gone";
}

Result apply_setting(XenHost& host, std::vector<Vif> vifs, const Setting& setting,
                     uint64_t timeout_ns) {
  const std::vector<Vif> before = vifs;
  const State target = state_of(setting.policy);
  Wait wait(host, std::move(vifs));
  wait.tell("vsnoop", setting.text());
  return wait.result(wait.run(timeout_ns, [&](const Vif& vif) {
    const auto old = std::find_if(before.begin(), before.end(),
                                  [&](const Vif& other) { return other.backend == vif.backend; });
    const State state = state_of(vif.state);
    const bool answered = vif.taken ? *vif.taken == setting.text()
                                    : vif.state != old->state || wait.elapsed() >= kSilence;
    if (state == State::error) return answered ? Progress::refused : Progress::pending;
    const bool has_it = state == target || state == State::waiting ||
                        (state == State::quiesced && vif.quiesce && target != State::off);
    return has_it && answered ? Progress::done : Progress::pending;
  }));
}

Result quiesce(XenHost& host, std::vector<Vif> vifs, uint64_t timeout_ns, bool reset) {
  Wait wait(host, std::move(vifs));
  const auto progress = [&](const Vif& vif) {
    return drained(host, vif) ? Progress::done : Progress::pending;
  };
  try {
    wait.tell(kQuiesce, kDrain);
    if (wait.run(timeout_ns, progress) == Outcome::done) return wait.result(Outcome::done);
    if (reset) {
      wait.tell(kQuiesce, kReset);
      if (wait.run(kResetTime, progress) == Outcome::done) return wait.result(Outcome::reset);
    }
  } catch (...) {
    wait.tell(kQuiesce, std::nullopt);
    throw;
  }
  wait.tell(kQuiesce, std::nullopt);
  return wait.result(Outcome::aborted);
}

Result resume(XenHost& host, std::vector<Vif> vifs, uint64_t timeout_ns) {
  Wait wait(host, std::move(vifs));
  wait.tell(kQuiesce, std::nullopt);
  return wait.result(wait.run(timeout_ns, [](const Vif& vif) {
    const State state = state_of(vif.state);
    return state == State::quiescing || state == State::quiesced ? Progress::pending
                                                                 : Progress::done;
  }));
}

}  // namespace vsnoop::xen
