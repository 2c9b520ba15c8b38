// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/live/fault.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "tools/units.h"

namespace vsnoop::live {

FaultSpec parse_fault(const std::string& text) {
  const auto complain = [&text](const std::string& what) {
    throw std::invalid_argument(
        fmt::format("'{}': {}; write such as peer:loss=1%,dup=0.1%,reorder=1%,seed=7", text, what));
  };
  FaultSpec spec;
  size_t at = text.find(':');
  const std::string side = text.substr(0, at);
  if (at == std::string::npos || (side != "peer" && side != "guest"))
    complain("it starts with peer: or guest:");
  spec.at_guest = side == "guest";
  double sum = 0;
  for (++at; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string item = text.substr(at, end - at);
    const size_t equals = item.find('=');
    if (equals == std::string::npos) complain(fmt::format("'{}' has no '='", item));
    const std::string key = item.substr(0, equals);
    const std::string value = item.substr(equals + 1);
    const auto share = [&](double& into) { sum += (into = parse_share(value)); };
    if (key == "loss")
      share(spec.loss);
    else if (key == "dup")
      share(spec.dup);
    else if (key == "reorder")
      share(spec.reorder);
    else if (key == "corrupt")
      share(spec.corrupt);
    else if (key == "delay")
      share(spec.delay);
    else if (key == "by")
      spec.by = parse_duration(value);
    else if (key == "seed")
      spec.seed = parse_size(value);
    else if (key == "dir" && (value == "in" || value == "out" || value == "both"))
      spec.in = value != "out", spec.out = value != "in";
    else
      complain(fmt::format("'{}' is unknown", item));
    at = end + 1;
  }
  if (sum > 1) complain("the probabilities add up to more than 1");
  return spec;
}

FaultDice::FaultDice(const FaultSpec& spec, uint64_t stream)
    : spec_(spec), state_(spec.seed * 0x9e3779b97f4a7c15 + stream) {}

// SplitMix64 (Steele, Lea, Flood 2014).
uint64_t FaultDice::draw() {
  uint64_t z = state_ += 0x9e3779b97f4a7c15;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

// One frame takes two draws whatever its fate, so that the streams of two specs stay in step.
Fate FaultDice::roll() {
  double dice = static_cast<double>(draw() >> 11) * 0x1p-53;
  const uint64_t random = draw();
  const auto hit = [&dice](double probability) {
    dice -= probability;
    return dice < 0;
  };
  if (hit(spec_.loss)) return {Fate::kLose, 0, 0, random};
  if (hit(spec_.dup)) return {Fate::kRepeat, 0, 0, random};
  if (hit(spec_.reorder))
    return {Fate::kHold, 1 + static_cast<uint32_t>(random % 4), spec_.by, random};
  if (hit(spec_.corrupt)) return {Fate::kCorrupt, 0, 0, random};
  if (hit(spec_.delay)) return {Fate::kHold, UINT32_MAX, spec_.by, random};
  return {Fate::kPass, 0, 0, random};
}

FaultyPort::FaultyPort(std::unique_ptr<PortInterface> port, FramePool& pool, const FaultSpec& spec)
    : port_(std::move(port)), pool_(pool), spec_(spec), dice_in_(spec, 1), dice_out_(spec, 2) {}

FaultyPort::~FaultyPort() {
  for (const Room* room : {&in_, &out_})
    for (const Waiting& waiting : *room) pool_.give(waiting.frame);
  if (shown_) pool_.give(shown_);
}

Fate FaultyPort::fate(FaultDice& dice, bool active, const VnetHeader& vnet, const Room& room) {
  if (!active) return {Fate::kPass, 0, 0, 0};
  Fate fate = dice.roll();
  if (fate.kind == Fate::kHold && room.size() >= kMostWaiting) fate.kind = Fate::kPass;
  counts_.lost += fate.kind == Fate::kLose;
  counts_.repeated += fate.kind == Fate::kRepeat;
  counts_.held += fate.kind == Fate::kHold;
  counts_.corrupted += fate.kind == Fate::kCorrupt;
  if (fate.kind == Fate::kCorrupt && vnet.gso_type != kVnetNoGso) fate.kind = Fate::kLose;
  return fate;
}

void FaultyPort::hold(Room& room, Frame* frame, const Fate& fate, uint64_t now) {
  if (frame) room.push_back({frame, fate.after, now + fate.by});
}

void FaultyPort::overtake(Room& room) {
  for (Waiting& waiting : room)
    if (waiting.after != 0 && waiting.after != UINT32_MAX) --waiting.after;
}

void FaultyPort::damage(Frame& frame, uint64_t random) {
  if (!complete_checksum(frame)) return;
  frame.vnet = {};
  frame.checksum = VSNOOP_CHECKSUM_UNKNOWN;
  constexpr uint32_t kAddresses = 14;
  if (frame.length <= kAddresses) return;
  const uint64_t bit = random % ((frame.length - kAddresses) * 8ULL);
  frame.data()[kAddresses + bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
}

// The first waiting frame whose time has come.
Frame* FaultyPort::ready(Room& room, uint64_t now) {
  const auto found = std::find_if(room.begin(), room.end(), [now](const Waiting& waiting) {
    return waiting.after == 0 || waiting.due <= now;
  });
  if (found == room.end()) return nullptr;
  Frame* frame = found->frame;
  room.erase(found);
  return frame;
}

bool FaultyPort::peek(Packet& packet, uint64_t now) {
  if (showing_port_) {
    if (port_->peek(packet, now)) return true;
    showing_port_ = false;  // the interface went away, and its frame with it
  }
  while (!shown_) {
    shown_ = ready(in_, now);
    if (shown_) break;
    if (!port_->peek(packet, now)) return false;
    const Fate fate = this->fate(dice_in_, spec_.in, packet.vnet, in_);
    if (fate.kind != Fate::kLose && fate.kind != Fate::kHold) overtake(in_);
    switch (fate.kind) {
      case Fate::kPass:
        showing_port_ = true;
        return true;
      case Fate::kLose:
        break;
      case Fate::kRepeat:
        hold(in_, pool_.copy(Outgoing::of(packet)), {Fate::kHold, 0, 0, 0}, now);
        showing_port_ = true;
        return true;
      case Fate::kHold:
        hold(in_, pool_.own(packet), fate, now);
        break;
      case Fate::kCorrupt:
        shown_ = pool_.own(packet);
        if (shown_) damage(*shown_, fate.random);
        break;
    }
    port_->pop(packet);
  }
  packet = {shown_->data(), shown_->length, shown_->checksum, shown_->vnet, shown_, 0};
  return true;
}

void FaultyPort::pop(Packet& packet) {
  if (showing_port_) {
    showing_port_ = false;
    port_->pop(packet);
    return;
  }
  if (packet.frame) pool_.give(packet.frame);
  packet.frame = nullptr;
  shown_ = nullptr;
}

Sent FaultyPort::send(const Outgoing& frame, uint64_t now) {
  const Fate fate = retried_ ? *retried_ : this->fate(dice_out_, spec_.out, frame.vnet, out_);
  retried_.reset();
  Sent sent = Sent::kYes;
  switch (fate.kind) {
    case Fate::kLose:
      return Sent::kYes;
    case Fate::kHold:
      hold(out_, pool_.copy(frame), fate, now);
      return Sent::kYes;
    case Fate::kCorrupt:
      if (Frame* copy = pool_.copy(frame)) {
        damage(*copy, fate.random);
        sent = port_->send(Outgoing::of(*copy), now);
        pool_.give(copy);
      }
      break;
    case Fate::kRepeat:
      sent = port_->send(frame, now);
      if (sent == Sent::kYes) port_->send(frame, now);  // no room for the second: so be it
      break;
    case Fate::kPass:
      sent = port_->send(frame, now);
      break;
  }
  if (sent == Sent::kLater) {
    retried_ = fate;
    return sent;
  }
  overtake(out_);
  run(now);
  return sent;
}

uint64_t FaultyPort::run(uint64_t now) {
  while (Frame* frame = ready(out_, now)) {
    port_->send(Outgoing::of(*frame), now);  // a link that loses frames may lose this one
    pool_.give(frame);
  }
  uint64_t next = port_->run(now);
  // What is due already waits for peek(), which may not be wanted for long.
  for (const Room* room : {&in_, &out_})
    for (const Waiting& waiting : *room)
      if (waiting.due > now) next = std::min(next, waiting.due);
  return next;
}

}  // namespace vsnoop::live
