// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// One network interface. GSO super-frames and checksums that are not filled in yet come and go
// through it whole, with their virtio-net header.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tools/live/frame.h"

namespace vsnoop::live {

enum class Sent {
  kYes,
  kLater,   ///< no room in the device: the frame is still the caller's
  kFailed,  ///< the kernel refuses this frame (too long for the interface, say)
  kDown     ///< the interface is down or gone
};

/// Frames that were lost before they could be read.
struct PortLosses {
  uint64_t overrun = 0;    ///< socket's ring or buffer full
  uint64_t oversized = 0;  ///< longer than FramePool::kLongest
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

  virtual int descriptor() const = 0;  ///< for poll(); -1 while closed
  virtual bool up() const = 0;
  /// Looks for a pending error, such as the interface having gone down.
  virtual void check() = 0;
  /// Tries to open an interface that is down; false: not yet.
  virtual bool reopen() = 0;
  virtual PortLosses losses() = 0;
};

/// AF_PACKET with a TPACKET_V2 ring. Frames that fit a slot are shown where the kernel put them;
/// longer ones (GSO) are read from the socket straight into a buffer of their size, so that slots
/// stay small and many.
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
  bool up() const override { return socket_ >= 0; }
  void check() override;
  bool reopen() override;
  PortLosses losses() override;

 private:
  void open();
  void configure();
  void map_ring();
  void close();
  void release_slot();
  bool read_long(uint32_t length, uint32_t room);
  void shape(bool tagged, uint32_t tpid, uint32_t tci, bool verified);

  std::string interface_;
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
  PortLosses losses_;
};

}  // namespace vsnoop::live
