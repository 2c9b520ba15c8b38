// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

// The first pass over a capture: which connections there are, which side of each is the guest, and
// whose checksums were captured before the NIC filled them in.

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "tools/replay/capture.h"
#include "tools/replay/segment.h"

namespace vsnoop::replay {

constexpr uint32_t no_connection = UINT32_MAX;

// Numbers connections in the order in which they appear: the same frames give the same numbers.
// A SYN-ACK with another sequence number than the one before it begins a new connection on its
// tuple, and so does one that answers a SYN after data (a new SYN alone may be a forged or
// forgotten one).
class ConnectionTable {
 public:
  struct Numbered {
    uint32_t number;
    uint32_t replaced;  // the connection whose tuple was used anew just now, or no_connection
    // Then: the SYN that this SYN-ACK answers, which was counted to the connection before.
    std::optional<Segment> opening;
  };
  // `segment` must be TCP.
  Numbered number(const Segment& segment);
  // The youngest connection of a segment's tuple, or no_connection.
  uint32_t find(const Segment& segment) const;

 private:
  struct Key {
    Address low, high;
    uint16_t low_port, high_port;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& key) const;
  };
  static Key key_of(const Segment& segment);
  struct Entry {
    uint32_t number = 0;
    bool data_seen = false, syn_after_data = false;
    bool taken = false;  // the sender of the SYN-ACK has acknowledged data, or sent some
    std::optional<Segment> syn_ack, last_syn;
  };
  std::unordered_map<Key, Entry, Hash> entries_;
  uint32_t count_ = 0;
};

struct Connection {
  struct Side {
    Address address;
    uint16_t port = 0;
    uint64_t received = 0;  // payload bytes, repetitions counted
  };
  std::array<Side, 2> sides;  // 0 sent the first frame seen
  int guest_side = -1;        // index into sides; -1: neither is a guest
  uint16_t guest = 0;         // index into Plan::guests
  bool reused = false;        // a later connection has the same tuple
  const Side& guest_end() const { return sides[guest_side == 1 ? 1 : 0]; }
  const Side& peer_end() const { return sides[guest_side == 1 ? 0 : 1]; }
};

struct Guest {
  Address address;
  uint64_t received = 0;
  uint32_t connections = 0;
};

struct Plan {
  std::vector<Connection> connections;
  std::vector<Guest> guests;
  std::map<Address, uint16_t> guest_of;
  std::set<Address> partial;  // hosts whose own frames have no checksum yet
  uint64_t frames = 0, tcp = 0;
  int64_t first_ns = 0, last_ns = 0;
  std::string link;
  std::string error;  // why reading ended early; empty: it did not
};

// Reads the whole capture. `named`: the guests; empty: in each connection the side that receives
// more payload. Throws CaptureError only if nothing can be read.
Plan make_plan(const std::string& path, const std::vector<Prefix>& named);

}  // namespace vsnoop::replay
