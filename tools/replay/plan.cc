// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/plan.h"

#include <algorithm>
#include <cstring>

#include "tools/units.h"

namespace vsnoop::replay {
namespace {

// More hosts than this are not asked whether they fill in checksums.
constexpr size_t most_hosts = 1 << 17;
constexpr uint64_t progress_every = 4096;  // frames

struct ChecksumCount {
  uint64_t partial = 0, filled = 0;
};

struct AddressHash {
  size_t operator()(const Address& address) const {
    uint64_t a, b;
    std::memcpy(&a, address.bytes.data(), 8);
    std::memcpy(&b, address.bytes.data() + 8, 8);
    return (a ^ b * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu;
  }
};

bool is_named(const std::vector<Prefix>& named, const Address& address) {
  return std::any_of(named.begin(), named.end(),
                     [&](const Prefix& prefix) { return prefix.holds(address); });
}

// Counts, for each host, frames whose checksum is only the pseudo header's sum.
class ChecksumCounts {
 public:
  void add(std::span<const uint8_t> frame, Segment& segment) {
    ChecksumCount& count = counts_[segment.source];
    // By accident a right checksum in 65536 looks like that.
    if (segment.looks_partial) judge(frame, segment);
    if (segment.checksum == Checksum::partial) {
      count.partial++;
    } else if (segment.checksum != Checksum::unknown) {
      count.filled++;
    }
    if (counts_.size() > most_hosts) {
      std::erase_if(counts_, [](const auto& host) { return !host.second.partial; });
      if (counts_.size() > most_hosts / 2) counts_.clear();
    }
  }
  // Some frames of an offloading host may come filled in (resets, SYN cookies), hence "nearly all".
  std::set<Address> partial() const {
    std::set<Address> hosts;
    for (const auto& [address, count] : counts_) {
      if (count.partial && count.partial >= count.filled * 4) hosts.insert(address);
    }
    return hosts;
  }

 private:
  std::unordered_map<Address, ChecksumCount, AddressHash> counts_;
};

}  // namespace

// An engine forgets a connection later than this, or has nothing to promise on it any more; what
// comes of it then all the same is "late" and not shown to the engine. Handshakes: RFC 9293 has an
// end give up after minutes.
const std::array<ConnectionTable::Limit, ConnectionTable::stages> ConnectionTable::limits{{
    {int64_t{300 * kSecond}, 1 << 16},      // half_open
    {int64_t{7200 * kSecond}, UINT32_MAX},  // established
    {int64_t{7200 * kSecond}, 1 << 16},     // in_the_middle
    {int64_t{120 * kSecond}, 1 << 16},      // closed
}};

size_t ConnectionTable::Hash::operator()(const Key& key) const {
  const AddressHash hash;
  uint64_t value = hash(key.low) * 31 + hash(key.high) * 17 +
                   (uint64_t{key.low_port} << 16 | key.high_port) * 0x9e3779b97f4a7c15u;
  return value ^ value >> 29;
}

// Says something that its direction has not said in the lane: no copy.
bool ConnectionTable::is_news(const Entry& entry, bool from_high, const Segment& segment) {
  return !entry.heard[from_high] || past(segment.seq + segment.length(), entry.end[from_high]) ||
         (segment.has(ack_flag) && past(segment.ack, entry.ack[from_high]));
}

uint32_t ConnectionTable::lane_of(uint32_t first, const Segment& segment, uint32_t place,
                                  bool from_high) const {
  uint32_t free = none;
  bool beside = false;  // `free` has its other direction at this place
  for (uint32_t slot = first; slot != none; slot = entries_[slot].next_lane) {
    const Entry& entry = entries_[slot];
    if (entry.placed[from_high]) {
      if (entry.place[from_high] == place) return slot;
      continue;
    }
    const bool other = entry.placed[!from_high] && entry.place[!from_high] == place;
    if (free == none || (other && !beside)) {
      free = slot;
      beside = other;
    }
  }
  if (free != none || first == none) return free;
  // The way through the network has changed, unless this was heard before.
  const Entry& entry = entries_[first];
  constexpr uint8_t most_lanes = 255;
  uint8_t last = 0;
  for (uint32_t slot = first; slot != none; slot = entries_[slot].next_lane) {
    last = entries_[slot].lane;
  }
  const bool moved = !segment.has(syn) && is_news(entry, from_high, segment);
  return moved || last == most_lanes ? first : none;
}

uint32_t ConnectionTable::add(const Key& key, uint32_t& first) {
  uint32_t slot;
  if (free_.empty()) {
    slot = static_cast<uint32_t>(entries_.size());
    entries_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
    entries_[slot] = Entry();
  }
  Entry& entry = entries_[slot];
  entry.key = key;
  entry.number = count_++;
  uint32_t* end = &first;
  while (*end != none) {
    entry.lane = static_cast<uint8_t>(entries_[*end].lane + 1);
    end = &entries_[*end].next_lane;
  }
  *end = slot;
  open_++;
  return slot;
}

bool ConnectionTable::is_copy(const Entry& entry, const Segment& segment, bool from_high) const {
  constexpr uint32_t near = 1 << 24;
  const auto first = first_.find(entry.key);
  for (uint32_t slot = first->second; slot != none; slot = entries_[slot].next_lane) {
    const Entry& other = entries_[slot];
    if (&other == &entry || other.lane > entry.lane) continue;
    if (segment.has(syn) && segment.has(ack_flag)) {
      if (other.syn_ack_from == from_high && other.syn_ack_seq == segment.seq) return true;
    } else if (segment.has(syn)) {
      if (other.last_syn && other.last_syn->source == segment.source &&
          other.last_syn->seq == segment.seq) {
        return true;
      }
    } else if (other.heard[from_high] && segment.seq - other.end[from_high] + near < 2 * near) {
      return true;
    }
  }
  return false;
}

void ConnectionTable::learn(Entry& entry, const Segment& segment, bool from_high,
                            Numbered& numbered) {
  // SYN and RST in one segment are a reset (RFC 9293 3.10.7.4).
  if (segment.has(rst)) {
    entry.stage = closed;
    return;
  }
  if (!segment.has(syn)) {
    entry.data_seen = entry.data_seen || segment.payload;
    if (entry.syn_ack_from == !from_high) {
      entry.answered = entry.answered || segment.ack == entry.syn_ack_seq + 1;
    } else if (entry.syn_ack_from == from_high) {
      entry.taken = entry.taken || past(segment.ack, entry.syn_ack_ack) ||
                    past(segment.seq + segment.length(), entry.syn_ack_seq + 1);
    }
    if (segment.has(fin)) entry.finished[from_high] = true;
    if (entry.finished[0] && entry.finished[1]) entry.stage = closed;
    return;
  }
  // Nobody opens a connection twice with the same number, neither while it lasts nor at once after.
  const bool lasts =
      (entry.taken || entry.answered) && (entry.stage == established || entry.stage == closed);
  if (!segment.has(ack_flag)) {
    if (lasts && entry.last_syn && entry.last_syn->source == segment.source &&
        entry.last_syn->seq == segment.seq) {
      numbered.repeated = true;
      return;
    }
    entry.last_syn = std::make_unique<Segment>(segment);
    entry.syn_after_data = entry.data_seen;
    if (entry.stage == in_the_middle && entry.syn_ack_from < 0 && !entry.data_seen) {
      entry.stage = half_open;
    }
    return;
  }
  if (lasts && entry.syn_ack_from == from_high && entry.syn_ack_seq == segment.seq) {
    numbered.repeated = true;
    return;
  }
  const bool before = entry.syn_ack_from >= 0;
  const bool repeated = entry.syn_ack_from == from_high && entry.syn_ack_seq == segment.seq &&
                        !(entry.syn_after_data && entry.taken);
  if (!repeated && (before || entry.data_seen)) {
    opening_ = std::move(entry.last_syn);
    if (opening_ && opening_->source != segment.destination) opening_.reset();
    entry.begin_anew(count_++);
    numbered.number = entry.number;
    numbered.is_new = numbered.replaced = true;
    numbered.copy = is_copy(entry, segment, from_high);
    numbered.late = false;
    numbered.opening = opening_.get();
    if (opening_) entry.last_syn = std::make_unique<Segment>(*opening_);
  }
  entry.syn_ack_from = from_high;
  entry.syn_ack_seq = segment.seq;
  entry.syn_ack_ack = segment.ack;
  if (entry.last_syn) entry.stage = established;
}

void ConnectionTable::note(Entry& entry, const Segment& segment, bool from_high) {
  if (is_news(entry, from_high, segment) || segment.has(syn)) {
    const uint32_t end = segment.seq + segment.length();
    if (!entry.heard[from_high] || segment.has(syn) || past(end, entry.end[from_high])) {
      entry.end[from_high] = end;
    }
    if (segment.has(ack_flag) &&
        (!entry.heard[from_high] || past(segment.ack, entry.ack[from_high]))) {
      entry.ack[from_high] = segment.ack;
    }
    entry.heard[from_high] = true;
  }
}

void ConnectionTable::take_out(uint32_t slot) {
  Entry& entry = entries_[slot];
  if (entry.listed == stages) return;
  List& list = lists_[entry.listed];
  (entry.older == none ? list.oldest : entries_[entry.older].newer) = entry.newer;
  (entry.newer == none ? list.newest : entries_[entry.newer].older) = entry.older;
  list.count--;
  entry.older = entry.newer = none;
  entry.listed = stages;
}

// To the young end of its stage's list.
void ConnectionTable::touch(uint32_t slot, Stage stage) {
  Entry& entry = entries_[slot];
  List& list = lists_[stage];
  entry.seen_ns = now_ns_;
  if (list.newest == slot) return;
  take_out(slot);
  entry.older = list.newest;
  if (list.newest != none) entries_[list.newest].newer = slot;
  list.newest = slot;
  if (list.oldest == none) list.oldest = slot;
  entry.listed = stage;
  list.count++;
}

void ConnectionTable::erase(uint32_t slot) {
  Entry& entry = entries_[slot];
  take_out(slot);
  const auto first = first_.find(entry.key);
  uint32_t* at = &first->second;
  while (*at != slot) at = &entries_[*at].next_lane;
  *at = entry.next_lane;
  if (first->second == none) first_.erase(first);
  entry.last_syn.reset();
  free_.push_back(slot);
  open_--;
  forgotten_ = true;
}

uint32_t ConnectionTable::find(const Segment& segment, uint8_t lane) const {
  const auto found = first_.find(key_of(segment));
  if (found == first_.end()) return none;
  for (uint32_t slot = found->second; slot != none; slot = entries_[slot].next_lane) {
    if (entries_[slot].lane == lane) return slot;
  }
  return none;
}

int Guests::find(const Address& address, uint8_t lane) const {
  const auto found = numbers_.find({address, lane});
  return found == numbers_.end() ? -1 : found->second;
}

int Guests::add(const Address& address, uint8_t lane) {
  if (const int number = find(address, lane); number >= 0) return number;
  if (list.size() == most) return -1;
  numbers_.emplace(std::pair(address, lane), static_cast<uint16_t>(list.size()));
  list.push_back({address, lane});
  return static_cast<int>(list.size()) - 1;
}

int choose_guest(const std::array<End, 2>& ends, Received who, bool high_first, uint8_t lane,
                 const std::vector<Prefix>& named, const Guests& guests) {
  if (!named.empty()) {
    const bool low = is_named(named, ends[0].address), high = is_named(named, ends[1].address);
    if (!low && !high) return -1;
    if (low != high) return high;
  }
  if (who != Received::equal) return who == Received::high;
  const bool first = high_first, second = !high_first;
  const bool elsewhere =
      guests.find(ends[first].address, lane) < 0 && guests.find(ends[second].address, lane) >= 0;
  return elsewhere ? second : first;
}

Plan make_plan(const std::shared_ptr<const Source>& source, const std::vector<Prefix>& named,
               const std::function<void(uint64_t)>& progress) {
  struct Pending {
    uint32_t number = ConnectionTable::none;
    uint8_t lane = 0;
    bool foreign = false;  // a copy, or late: nobody's
    std::array<End, 2> ends;
    std::array<uint64_t, 2> received{};
  };
  CaptureReader reader(source);
  ConnectionTable table;
  ChecksumCounts checksums;
  std::vector<Pending> pending;  // by slot
  Plan plan;
  const auto decide = [&](Pending& c) {
    if (c.number == ConnectionTable::none) return;
    const Received who = c.received[0] == c.received[1]  ? Received::equal
                         : c.received[1] > c.received[0] ? Received::high
                                                         : Received::low;
    plan.received.set(c.number, who);
    c.number = ConnectionTable::none;
    if (who == Received::equal) {
      plan.idle++;
    } else if (const int side = choose_guest(c.ends, who, false, c.lane, named, plan.guests);
               side >= 0 && !c.foreign) {
      plan.guests.add(c.ends[static_cast<size_t>(side)].address, c.lane);
    }
  };
  CapturedFrame frame;
  uint64_t readable = 0;
  try {
    while (reader.next(frame)) {
      if (plan.frames++ == 0) plan.first_ns = plan.last_ns = frame.time_ns;
      if (plan.frames % progress_every == 0) progress(reader.position());
      plan.last_ns = std::max(plan.last_ns, frame.time_ns);
      readable += frame.readable;
      Segment segment = peek_segment(frame.bytes, frame.wire);
      if (segment.kind != Segment::Kind::tcp) continue;
      plan.tcp++;
      checksums.add(frame.bytes, segment);
      table.forget(frame.time_ns, [&](uint32_t slot) { decide(pending[slot]); });
      const auto numbered = table.number(segment, frame.place, [&] {
        judge(frame.bytes, segment);
        return segment.checksum == Checksum::bad;
      });
      if (numbered.slot >= pending.size()) pending.resize(numbered.slot + 1);
      Pending& connection = pending[numbered.slot];
      const bool from_high = std::tie(segment.destination, segment.destination_port) <
                             std::tie(segment.source, segment.source_port);
      if (numbered.is_new) {
        decide(connection);
        connection = {numbered.number,
                      table.lane(numbered.slot),
                      numbered.copy || numbered.late,
                      {End{segment.source, segment.source_port},
                       End{segment.destination, segment.destination_port}}};
        if (from_high) std::swap(connection.ends[0], connection.ends[1]);
        plan.connections++;
        plan.most_open = std::max(plan.most_open, table.open());
      }
      connection.received[!from_high] += segment.payload;
      plan.most_established = std::max(plan.most_established, table.established_or_closed());
    }
  } catch (const CaptureError& error) {
    plan.error = error.what();
  }
  std::sort(pending.begin(), pending.end(),
            [](const Pending& a, const Pending& b) { return a.number < b.number; });
  for (Pending& connection : pending) decide(connection);
  plan.partial = checksums.partial();
  plan.link = reader.link_name();
  plan.findings = reader.findings();
  if (plan.error.empty() && plan.frames && !readable) {
    plan.error = plan.findings.unread.empty()
                     ? ""
                     : source->name() +
                           ": nothing in it can be read: " + plan.findings.unread.begin()->first;
  }
  return plan;
}

}  // namespace vsnoop::replay
