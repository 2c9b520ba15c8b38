// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// One network interface. GSO super-frames and checksums that are not filled in yet come and go
// through it whole, with their virtio-net header.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "tools/live/frame.h"
#include "tools/live/interface.h"
#include "tools/live/split.h"
#include "tools/live/tx_ring.h"
#include "tools/live/udp_super.h"
#include "tools/units.h"

namespace vsnoop::live {

enum class Sent {
  kYes,
  kLater,   ///< no room in the device: the frame is still the caller's
  kFailed,  ///< the kernel refuses this frame, or has had no room for too long: it is lost
  kDown     ///< the interface is down or gone
};

/// Frames that were lost at an interface.
struct PortLosses {
  // Before they could be read.
  uint64_t overrun = 0;  ///< socket's ring or buffer full, or a kind that the kernel hands to none
  uint64_t oversized = 0;  ///< too long, and not to be taken apart
  // When they were to be sent: Sent::kFailed by its reason.
  uint64_t too_long = 0;  ///< for the interface
  uint64_t no_room = 0;   ///< in the device, for longer than Patience allows
  uint64_t refused = 0;   ///< by the kernel for anything else
};

/// How long a frame may wait for a device that says it has no room. That may be the frame's own
/// fault (a filter at the way out says the same): frames that get through earn the time that others
/// may wait, so that refused ones cannot stop a port.
class Patience {
 public:
  static constexpr uint64_t kMost = 50 * kMillisecond;
  static constexpr uint64_t kEarned = 200 * kMicrosecond;
  /// For a full socket: that is never the frame's fault.
  static constexpr uint64_t kSocket = kSecond;

  /// A frame got through.
  void sent() {
    left_ = std::min(left_ + kEarned, kMost);
    since_ = 0;
  }
  /// No room for a frame at `now` (ns). Whether to try it again; if not, it has to be dropped.
  bool try_again(uint64_t now, bool socket_full) {
    if (since_ == 0) since_ = now;
    const uint64_t waited = now - since_;
    if (waited < (socket_full ? kSocket : left_)) return true;
    if (!socket_full) left_ -= std::min(left_, waited);
    since_ = 0;
    return false;
  }

 private:
  uint64_t left_ = kMost;
  uint64_t since_ = 0;  // when the frame at hand was refused first; 0: not yet
};

/// What the bridge sees of an interface; FaultyPort wraps one. Times are ns, monotonic.
class PortInterface {
 public:
  virtual ~PortInterface() = default;

  /// Shows the next frame, the same one until pop(). False: there is none.
  virtual bool peek(Packet& packet, uint64_t now) = 0;
  /// Done with the frame that peek() showed; frees packet.frame unless the caller took it (null).
  virtual void pop(Packet& packet) = 0;
  virtual Sent send(const Outgoing& frame, uint64_t now) = 0;
  /// Does what is due by itself (delayed frames); returns when to call again.
  virtual uint64_t run(uint64_t now) = 0;

  virtual int descriptor() const = 0;                   ///< for poll(); -1 while closed
  virtual int second_descriptor() const { return -1; }  ///< another one; -1: none
  virtual bool up() const = 0;
  /// Looks for a pending error, such as the interface having gone down.
  virtual void check() = 0;
  /// Tries to open an interface that is down; false: not yet.
  virtual bool reopen() = 0;
  virtual PortLosses losses() = 0;
};

/// AF_PACKET with a TPACKET_V2 ring. Frames that fit a slot are shown where the kernel put them;
/// longer ones (GSO) are read from the socket straight into a buffer of their size, so that slots
/// stay small and many. What the kernel would not take back is shown in parts (split.h).
class Port : public PortInterface {
 public:
  /// Opens `interface`. Throws std::runtime_error naming what is missing and what to do.
  /// `queue_bytes`: long frames that may wait to be read.
  Port(std::string interface, FramePool& pool, uint32_t queue_bytes);
  ~Port() override;
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  bool peek(Packet& packet, uint64_t now) override;
  void pop(Packet& packet) override;
  Sent send(const Outgoing& frame, uint64_t now) override;
  uint64_t run(uint64_t) override { return UINT64_MAX; }
  int descriptor() const override { return socket_; }
  int second_descriptor() const override { return udp_super_ ? udp_super_->descriptor() : -1; }
  bool up() const override { return socket_ >= 0; }
  void check() override;
  /// The interface that it was, whatever its name is now; else one of that name.
  bool reopen() override;
  PortLosses losses() override;

 private:
  void open(const InterfaceState& state);
  void configure(const InterfaceState& state);
  void map_ring();
  void close();
  void release_slot();
  bool read_slot();
  bool slot_may_wait(const uint8_t* slot) const;
  bool begin_udp_super();
  bool read_long(uint32_t length, uint32_t room);
  bool show_part();
  void end_split();
  Sent refused(int error, const Outgoing& frame, uint64_t now);
  Sent send_long(const Outgoing& frame, uint64_t now);
  void shape(bool tagged, uint32_t tpid, uint32_t tci, bool verified);

  std::string interface_;
  uint32_t index_ = 0;  // of the interface; it keeps it under another name
  FramePool& pool_;
  uint32_t queue_bytes_;
  int socket_ = -1;
  uint8_t* ring_ = nullptr;
  size_t ring_bytes_ = 0;
  uint32_t slot_bytes_ = 0;
  uint32_t slots_ = 0;
  uint32_t next_ = 0;
  bool shown_ = false;  // current_ is valid
  Packet current_{};
  Splitter split_;
  std::unique_ptr<UdpSuper> udp_super_;  // null: this kernel shows them with the others
  bool splitting_ = false;               // current_ is a part; what it is cut off lies in the slot,
  Frame* source_ = nullptr;              // or here,
  std::unique_ptr<uint8_t[]> longest_;   // or here, if it is longer than any frame of the pool,
  bool splitting_udp_ = false;           // or in udp_super_
  uint64_t udp_supers_ = 0;              // taken from there
  TxRing tx_ring_;
  Patience patience_;
  PortLosses losses_;
};

}  // namespace vsnoop::live
