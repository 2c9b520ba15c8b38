// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// A bad link, for tests: loses, repeats, reorders, delays and corrupts frames by a seed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/live/port.h"

namespace vsnoop::live {

struct FaultSpec {
  bool at_guest = false;       ///< at the guest's interface, else at the peer's
  bool in = true, out = true;  ///< frames that come from the interface, frames sent to it
  double loss = 0, dup = 0, reorder = 0, corrupt = 0, delay = 0;  ///< probabilities
  uint64_t by = 10'000'000;  ///< ns that `delay` adds, and that `reorder` may cost at most
  uint64_t seed = 1;
};
/// "peer:loss=1%,dup=0.1%,reorder=1%,corrupt=0.1%,delay=1%,by=10ms,dir=in|out|both,seed=7".
/// Throws std::invalid_argument with a sentence for the user.
FaultSpec parse_fault(const std::string& text);

/// What happens to one frame.
struct Fate {
  enum Kind : uint8_t { kPass, kLose, kRepeat, kHold, kCorrupt } kind;
  uint32_t after;   ///< kHold: frames that overtake it at most
  uint64_t by;      ///< kHold: ns that it waits at most
  uint64_t random;  ///< kCorrupt: which bit
};

/// The n-th frame of a stream has the same fate whenever seed and stream are the same.
class FaultDice {
 public:
  FaultDice(const FaultSpec& spec, uint64_t stream);
  Fate roll();

 private:
  uint64_t draw();

  FaultSpec spec_;
  uint64_t state_;
};

struct FaultCounts {
  uint64_t lost = 0, repeated = 0, held = 0, corrupted = 0;
};

/// A port behind such a link. A GSO frame has one fate as a whole, and is lost instead of being
/// corrupted: its checksums do not exist yet, so nobody could notice.
class FaultyPort : public PortInterface {
 public:
  FaultyPort(std::unique_ptr<PortInterface> port, FramePool& pool, const FaultSpec& spec);
  ~FaultyPort() override;

  bool peek(Packet& packet, uint64_t now) override;
  void pop(Packet& packet) override;
  Sent send(const Outgoing& frame, uint64_t now) override;
  uint64_t run(uint64_t now) override;
  int descriptor() const override { return port_->descriptor(); }
  int second_descriptor() const override { return port_->second_descriptor(); }
  bool up() const override { return port_->up(); }
  void check() override { port_->check(); }
  bool reopen() override { return port_->reopen(); }
  PortLosses losses() override { return port_->losses(); }

  const FaultCounts& counts() const { return counts_; }

 private:
  /// Frames that others may overtake.
  struct Waiting {
    Frame* frame;
    uint32_t after;
    uint64_t due;
  };
  using Room = std::vector<Waiting>;
  static constexpr size_t kMostWaiting = 1024;

  Fate fate(FaultDice& dice, bool active, const VnetHeader& vnet, const Room& room);
  void hold(Room& room, Frame* frame, const Fate& fate, uint64_t now);
  static void overtake(Room& room);
  void damage(Frame& frame, uint64_t random);
  Frame* ready(Room& room, uint64_t now);

  std::unique_ptr<PortInterface> port_;
  FramePool& pool_;
  FaultSpec spec_;
  FaultDice dice_in_, dice_out_;
  Room in_, out_;
  Frame* shown_ = nullptr;  // what peek() shows, if not the port's own
  bool showing_port_ = false;
  std::optional<Fate> retried_;  // of the frame that the port had no room for: it comes again
  FaultCounts counts_;
};

}  // namespace vsnoop::live
