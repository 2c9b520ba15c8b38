// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

// The first pass over a capture: which connections there are, which side of each is the guest, and
// whose checksums were captured before the NIC filled them in. Memory grows with the connections
// that are open at one time: what is over is forgotten.

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tools/replay/capture.h"
#include "tools/replay/segment.h"

namespace vsnoop::replay {

// Numbers connections in the order in which they appear, and forgets those that are over: the same
// frames give the same numbers.
//
// A SYN-ACK with another sequence number than the one before it begins a new connection on its
// tuple, and so does one that answers a SYN after data (a new SYN alone may be a forged or
// forgotten one).
//
// A tuple may be seen at several places (a trunk's VLANs, the two sides of a router). Each of its
// directions at a place makes a lane, and each lane has its own connections: copies of the first
// lane's, or those of another network that uses the same addresses.
class ConnectionTable {
 public:
  static constexpr uint32_t none = UINT32_MAX;
  struct Numbered {
    uint32_t number;      // from 0
    uint32_t slot;        // small, for tables of the caller's; used again once it is forgotten
    bool is_new = false;  // the first segment of its connection
    bool replaced =
        false;          // new, and the slot's connection before it is over: its tuple is used anew
    bool copy = false;  // new, and the same connection is seen at another place, too
    bool late = false;  // new, but the rest of one that was forgotten, if it has no SYN
    bool repeated = false;  // the handshake again in mid-connection: a copy, not to be looked at
    const Segment* opening = nullptr;  // replaced: the SYN that this SYN-ACK answers, which was
                                       // counted to the connection before; until the next call
  };
  // `segment` must be TCP; `is_bad` says whether its checksum is wrong, and is not always asked.
  // Call forget() before.
  template <typename IsBad>
  Numbered number(const Segment& segment, uint32_t place, IsBad is_bad);
  // Forgets what is over, or too much, when the capture's clock says `captured_ns`; calls
  // gone(slot) before. One broken time stamp must not end all connections: the table's own clock
  // never goes back, and by a minute a call at most.
  template <typename Gone>
  void forget(int64_t captured_ns, Gone gone);
  // The slot of the youngest connection of a segment's tuple in a lane, or none.
  uint32_t find(const Segment& segment, uint8_t lane) const;
  uint8_t lane(uint32_t slot) const { return entries_[slot].lane; }
  bool has_forgotten() const { return forgotten_; }
  uint32_t open() const { return open_; }  // connections that are remembered now
  // ... whose handshake was seen, or that are over.
  uint32_t established_or_closed() const {
    return lists_[established].count + lists_[closed].count;
  }

 private:
  struct Key {
    Address low, high;
    uint16_t low_port, high_port;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& key) const;
  };
  // Where a connection stands; each stage is a list from the one silent for longest.
  enum Stage : uint8_t { half_open, established, in_the_middle, closed, stages };
  struct Limit {
    int64_t silence_ns;
    uint32_t count;
  };
  static const std::array<Limit, stages> limits;
  struct Entry {
    Key key;
    uint32_t number = 0, next_lane = none, older = none, newer = none;
    int64_t seen_ns = 0;
    Stage stage = in_the_middle, listed = stages;  // listed: in which list; stages: in none
    uint8_t lane = 0;
    // By direction: 0 from the low end, 1 from the high one.
    std::array<uint32_t, 2> place{}, end{}, ack{};
    std::array<bool, 2> placed{}, heard{}, finished{};
    bool data_seen = false, syn_after_data = false;
    bool answered = false;  // the SYN-ACK is acknowledged
    bool taken = false;     // the sender of the SYN-ACK has acknowledged data, or sent some
    int8_t syn_ack_from = -1;
    uint32_t syn_ack_seq = 0, syn_ack_ack = 0;
    std::unique_ptr<Segment> last_syn;
    void begin_anew(uint32_t as) {
      number = as;
      data_seen = syn_after_data = answered = taken = false;
      syn_ack_from = -1;
      last_syn.reset();
      heard = finished = {};
      stage = in_the_middle;
    }
  };
  struct List {
    uint32_t oldest = none, newest = none, count = 0;
  };
  static Key key_of(const Segment& segment);
  static bool past(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) > 0; }
  static bool is_news(const Entry& entry, bool from_high, const Segment& segment);
  uint32_t lane_of(uint32_t first, const Segment& segment, uint32_t place, bool from_high) const;
  uint32_t add(const Key& key, uint32_t& first);
  bool is_copy(const Entry& entry, const Segment& segment, bool from_high) const;
  void learn(Entry& entry, const Segment& segment, bool from_high, Numbered& numbered);
  void note(Entry& entry, const Segment& segment, bool from_high);
  void touch(uint32_t slot, Stage stage);
  void take_out(uint32_t slot);
  void erase(uint32_t slot);

  std::unordered_map<Key, uint32_t, Hash> first_;  // the first lane's slot
  std::vector<Entry> entries_;
  std::vector<uint32_t> free_;
  std::array<List, stages> lists_;
  std::unique_ptr<Segment> opening_;
  uint32_t count_ = 0, open_ = 0;
  bool forgotten_ = false;
  std::optional<int64_t> captured_ns_;  // the last time stamp
  int64_t now_ns_ = 0;                  // the table's clock
};

// Who of a connection's two ends received more payload.
enum class Received : uint8_t { low, high, equal };

// Two bits for each connection of the capture: it is all that grows with the file.
class ReceivedList {
 public:
  void set(uint32_t number, Received who) {
    if (bits_.size() <= number / 4) bits_.resize(number / 4 + 1);
    bits_[number / 4] =
        static_cast<uint8_t>(bits_[number / 4] | static_cast<uint8_t>(who) << number % 4 * 2);
  }
  Received of(uint32_t number) const {
    return number / 4 < bits_.size()
               ? static_cast<Received>(bits_[number / 4] >> number % 4 * 2 & 3)
               : Received::equal;
  }

 private:
  std::vector<uint8_t> bits_;
};

struct End {
  Address address;
  uint16_t port = 0;
  auto operator<=>(const End&) const = default;
};

struct Guest {
  Address address;
  uint8_t lane = 0;
  uint64_t received = 0;  // payload bytes, repetitions counted
  uint32_t connections = 0;
};

// The guests of a capture, at most so many: an engine's guests cost memory each.
class Guests {
 public:
  static constexpr size_t most = 4096;
  // Number of the guest, or -1; added if there is room.
  int add(const Address& address, uint8_t lane);
  int find(const Address& address, uint8_t lane) const;
  std::vector<Guest> list;

 private:
  std::map<std::pair<Address, uint8_t>, uint16_t> numbers_;
};

struct Plan {
  ReceivedList received;
  Guests guests;                           // those that received something
  std::set<Address> partial;               // hosts whose own frames have no checksum yet
  uint64_t frames = 0, tcp = 0, idle = 0;  // idle: connections without payload
  uint32_t connections = 0, most_open = 0, most_established = 0;
  int64_t first_ns = 0, last_ns = 0;
  std::string link;
  Findings findings;
  std::string error;  // why reading ended early; empty: it did not
};

// Which of two ends is the guest: `named` says, or who received more, or, if that is equal, a side
// that is a guest elsewhere, else the one that spoke first. -1: neither. `ends`: the low one first.
int choose_guest(const std::array<End, 2>& ends, Received who, bool high_first, uint8_t lane,
                 const std::vector<Prefix>& named, const Guests& guests);

// Reads the whole capture. `progress` is told the bytes of the file that were read, now and then.
// Throws CaptureError only if nothing can be read.
Plan make_plan(const std::shared_ptr<const Source>& source, const std::vector<Prefix>& named,
               const std::function<void(uint64_t)>& progress);

inline ConnectionTable::Key ConnectionTable::key_of(const Segment& segment) {
  Key key{segment.source, segment.destination, segment.source_port, segment.destination_port};
  if (std::tie(key.high, key.high_port) < std::tie(key.low, key.low_port)) {
    std::swap(key.low, key.high);
    std::swap(key.low_port, key.high_port);
  }
  return key;
}

template <typename IsBad>
ConnectionTable::Numbered ConnectionTable::number(const Segment& segment, uint32_t place,
                                                  IsBad is_bad) {
  const Key key = key_of(segment);
  const bool from_high = segment.source != key.low || segment.source_port != key.low_port;
  uint32_t& first = first_.try_emplace(key, none).first->second;
  uint32_t slot = lane_of(first, segment, place, from_high);
  const bool is_new = slot == none;
  if (is_new) slot = add(key, first);
  Entry& entry = entries_[slot];
  Numbered numbered{entry.number, slot, is_new};
  // Nothing is learnt any more from the bulk of a connection: its checksums need not be summed.
  const bool open = entry.data_seen && entry.taken && entry.placed[0] && entry.placed[1] &&
                    !(segment.flags & (syn | rst | fin));
  if (is_new) {
    numbered.late = forgotten_ && (segment.flags & (syn | ack_flag | rst)) != syn;
    numbered.copy = is_copy(entry, segment, from_high);
  }
  if (!open && is_bad()) {
    touch(slot, entry.stage);
    return numbered;
  }
  if (!entry.placed[from_high]) {
    entry.placed[from_high] = true;
    entry.place[from_high] = place;
  }
  if (!open) learn(entry, segment, from_high, numbered);
  note(entry, segment, from_high);
  touch(slot, entry.stage);
  return numbered;
}

template <typename Gone>
void ConnectionTable::forget(int64_t captured_ns, Gone gone) {
  constexpr int64_t most = 60'000'000'000;
  if (captured_ns_ && captured_ns > *captured_ns_) {
    now_ns_ += std::min(captured_ns - *captured_ns_, most);
  }
  captured_ns_ = captured_ns;
  for (size_t stage = 0; stage < stages; stage++) {
    const List& list = lists_[stage];
    while (list.oldest != none &&
           (list.count > limits[stage].count ||
            now_ns_ - entries_[list.oldest].seen_ns > limits[stage].silence_ns)) {
      const uint32_t slot = list.oldest;
      gone(slot);
      erase(slot);
    }
  }
}

}  // namespace vsnoop::replay
