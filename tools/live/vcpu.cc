// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/live/vcpu.h"

#include <algorithm>

namespace vsnoop::live {

Vcpu::Vcpu(const VcpuConfig& config, uint64_t now) : config_(config) {
  started_ = last_work_ = now;
  if (config_.vcpus <= 1) return;
  const uint64_t slice = config_.slice;
  const uint64_t phase = config_.phase % (slice * config_.vcpus);
  if (config_.io) {
    state_ = State::kAsleep;
    others_ = now - std::min(now, phase % slice);
  } else if (phase < slice) {
    change_ = now + slice - phase;
  } else {
    state_ = State::kQueued;
    change_ = now + slice * config_.vcpus - phase;
  }
}

void Vcpu::run_at(uint64_t when) {
  state_ = State::kRunning;
  started_ = last_work_ = when;
  change_ = when + config_.slice;
}

void Vcpu::stop_at(uint64_t when, State next) {
  state_ = next;
  ran_ += when - started_;
  others_ = when;
  change_ = when + config_.slice * (config_.vcpus - 1);
}

bool Vcpu::advance(uint64_t now, bool work) {
  if (config_.vcpus <= 1) return true;
  // Whole rounds that nobody looked at.
  while (state_ != State::kAsleep && now >= change_) {
    if (state_ == State::kRunning)
      stop_at(change_, State::kQueued);
    else
      run_at(change_);
  }
  if (!config_.io) return running();
  idle_ = !work;
  if (state_ == State::kRunning) {
    if (work)
      last_work_ = std::max(last_work_, now);
    else if (now >= last_work_ + config_.linger)
      stop_at(now, State::kAsleep);
  } else if (state_ == State::kAsleep && work) {
    const uint64_t into = (now - others_) % config_.slice;
    state_ = State::kQueued;
    change_ = now + (config_.slice - into) + config_.slice * (config_.vcpus - 2);
  }
  return running();
}

uint64_t Vcpu::next_event() const {
  if (config_.vcpus <= 1 || state_ == State::kAsleep) return UINT64_MAX;
  if (state_ == State::kRunning && idle_) return std::min(change_, last_work_ + config_.linger);
  return change_;
}

uint64_t Vcpu::ran(uint64_t now) const {
  return ran_ + (running() && now > started_ ? now - started_ : 0);
}

}  // namespace vsnoop::live
