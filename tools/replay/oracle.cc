// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/oracle.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <numeric>

namespace vsnoop::replay {
namespace {

// So many times must the peer repeat promised bytes and the guest answer with less before the
// capture counts as proof that the guest does not want them.
constexpr uint32_t refusals_that_prove = 3;
// An ACK further ahead than any window can be is no ACK of this connection.
constexpr int64_t farthest_ack = 1 << 30;

// 128 bins for each power of two.
constexpr size_t bin_bits = 7, bins = (64 - bin_bits) << bin_bits;
size_t bin_of(int64_t ns) {
  const auto value = static_cast<uint64_t>(ns);
  const auto width = static_cast<size_t>(std::bit_width(value));
  if (width <= bin_bits) return value;
  const size_t shift = width - bin_bits - 1;
  return ((shift + 1) << bin_bits) + ((value >> shift) & ((1 << bin_bits) - 1));
}
// The middle of a bin.
int64_t time_of(size_t bin) {
  if (bin < (1 << bin_bits)) return static_cast<int64_t>(bin);
  const size_t shift = (bin >> bin_bits) - 1;
  const uint64_t low = ((bin & ((1 << bin_bits) - 1)) | 1 << bin_bits) << shift;
  return static_cast<int64_t>(low + ((uint64_t{1} << shift) >> 1));
}

}  // namespace

void Times::add(int64_t ns) {
  ns = std::max<int64_t>(ns, 0);
  max_ = std::max(max_, ns);
  count_++;
  if (bins_.empty()) {
    exact_.push_back(ns);
    if (exact_.size() > most_exact) fold();
  } else {
    bins_[bin_of(ns)]++;
  }
}

void Times::add(const Times& other) {
  for (const int64_t ns : other.exact_) add(ns);
  if (other.bins_.empty()) return;
  if (bins_.empty()) fold();
  for (size_t i = 0; i < bins_.size(); i++) bins_[i] += other.bins_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
}

void Times::fold() {
  bins_.resize(bins);
  for (const int64_t ns : exact_) bins_[bin_of(ns)]++;
  exact_ = {};
}

int64_t Times::percentile(double share) const {
  const auto rank = static_cast<size_t>(share * static_cast<double>(count_ - 1) + 0.5);
  if (bins_.empty()) {
    std::vector<int64_t> sorted = exact_;
    const auto at = sorted.begin() + static_cast<long>(rank);
    std::nth_element(sorted.begin(), at, sorted.end());
    return *at;
  }
  uint64_t before = 0;
  for (size_t i = 0; i < bins_.size(); i++) {
    before += bins_[i];
    if (before > rank) return std::min(time_of(i), max_);
  }
  return max_;
}

uint64_t Times::below(int64_t ns) const {
  if (bins_.empty()) {
    return static_cast<uint64_t>(
        std::count_if(exact_.begin(), exact_.end(), [ns](int64_t time) { return time < ns; }));
  }
  return std::accumulate(bins_.begin(), bins_.begin() + static_cast<long>(bin_of(ns)), uint64_t{0});
}

PromiseCount& PromiseCount::operator+=(const PromiseCount& other) {
  early_acks += other.early_acks;
  bytes += other.bytes;
  return *this;
}

void OracleResult::operator+=(const OracleResult& other) {
  for (size_t i = 0; i < fates.size(); i++) fates[i] += other.fates[i];
  for (size_t i = 0; i < causes.size(); i++) causes[i] += other.causes[i];
  saved.add(other.saved);
}

int64_t Oracle::position(uint32_t seq) const {
  const uint32_t near = origin_ + static_cast<uint32_t>(peer_end_);
  return peer_end_ + static_cast<int32_t>(seq - near);
}

int64_t Oracle::edge(const Segment& segment) const {
  const int by = segment.has(syn) ? 0 : handshake_.shift();
  return position(segment.ack) + (static_cast<int64_t>(segment.window) << by);
}

void Oracle::learn_data(int64_t start, int64_t end) {
  if (end <= contiguous_) return;
  auto next = islands_.upper_bound(start);
  if (next != islands_.begin() && std::prev(next)->second >= start) --next;
  while (next != islands_.end() && next->first <= end) {
    start = std::min(start, next->first);
    end = std::max(end, next->second);
    next = islands_.erase(next);
  }
  if (start <= contiguous_) {
    contiguous_ = end;
  } else {
    islands_.emplace(start, end);
  }
}

void Oracle::from_peer(const Segment& segment) {
  if (segment.checksum == Checksum::bad) return;
  const bool begins = handshake_.learn(segment, false);
  if (segment.has(syn) && !segment.has(rst) && !begins) return;
  if (begins) {
    // What was seen before is of an older connection.
    islands_.clear();
    peer_end_ = contiguous_ = guest_ack_ = right_edge_ = shown_ack_ = shown_edge_ = 0;
    newest_ack_ = newest_edge_ = peer_una_ = 0;
    guest_fin_ = guest_reset_ = peer_reset_ = stopped_ = false;
  }
  if (begins || !started_) {
    origin_ = segment.seq + (segment.has(syn) ? 1 : 0);
    started_ = true;
  }
  // Of its own SYN the guest's window counts from our first byte, which only the peer's SYN tells.
  if (begins) right_edge_ = handshake_.guest_window();
  const int64_t start = position(segment.seq) + (segment.has(syn) ? 1 : 0);
  const int64_t end = start + segment.payload;
  if (segment.has(rst) && start >= guest_ack_ && start <= right_edge_) peer_reset_ = true;
  if (segment.payload) {
    learn_data(start, end);
    std::erase_if(withheld_, [&](const auto& r) { return r.first >= start && r.second <= end; });
    for (Promise& promise : open()) {
      if (start < promise.end && end > promise.start) promise.asked_again = true;
    }
  }
  if (!segment.has(rst)) peer_end_ = std::max(peer_end_, end + (segment.has(fin) ? 1 : 0));
}

void Oracle::withheld(const Segment& segment) {
  const int64_t start = position(segment.seq), end = start + segment.payload;
  if (segment.checksum == Checksum::bad || end <= std::max(promised_, guest_ack_)) return;
  withheld_.emplace_back(start, end);
}

void Oracle::settle(Promise& promise, Fate fate, std::optional<Cause> cause) {
  const auto left = static_cast<uint64_t>(promise.end - promise.start);
  const PromiseCount count{1, left};
  result_.fates[static_cast<size_t>(fate)] += count;
  if (cause) result_.causes[static_cast<size_t>(*cause)] += count;
}

void Oracle::settle_all(Fate fate, Cause cause) {
  for (Promise& promise : open()) settle(promise, fate, cause);
  open_.clear();
  first_open_ = 0;
}

void Oracle::learn_ack(int64_t ack, int64_t now_ns) {
  while (first_open_ < open_.size() && open_[first_open_].start < ack) {
    Promise& first = open_[first_open_];
    if (first.end > ack) {  // one part is kept, the rest stays open
      result_.fates[0].bytes += static_cast<uint64_t>(ack - first.start);
      first.start = ack;
      break;
    }
    settle(first, Fate::kept, {});
    result_.saved.add(now_ns - first.time_ns);
    first_open_++;
  }
  if (first_open_ == open_.size() || first_open_ > 1024) {
    open_.erase(open_.begin(), open_.begin() + static_cast<long>(first_open_));
    first_open_ = 0;
  }
  guest_ack_ = ack;
  learn_data(contiguous_, ack);
}

void Oracle::from_guest(const Segment& segment, int64_t now_ns) {
  if (segment.checksum == Checksum::bad) return;
  guest_spoke_ns_ = now_ns;
  handshake_.learn(segment, true);
  if (segment.has(syn) && handshake_.complete())
    right_edge_ = std::max(right_edge_, handshake_.guest_window());
  if (segment.has(fin)) guest_fin_ = true;
  if (segment.has(ack_flag)) {
    if (!started_) {
      origin_ = segment.ack;
      started_ = true;
    }
    const int64_t ack = position(segment.ack);
    for (const auto& range : withheld_) diverged_ |= ack > range.first;
    if (ack > guest_ack_ && ack <= peer_end_ + farthest_ack) learn_ack(ack, now_ns);
    for (Promise& promise : open()) {
      if (promise.asked_again && ack <= promise.start) promise.refusals++;
      promise.asked_again = false;
    }
    if (!segment.has(rst)) {
      right_edge_ = std::max(right_edge_, edge(segment));
      // RFC 9293 3.10.7.4, SND.WL1 and SND.WL2.
      if (ack >= guest_ack_ &&
          (ack > newest_ack_ || !guest_snd_ ||
           static_cast<int32_t>(segment.seq + segment.length() - *guest_snd_) >= 0)) {
        newest_edge_ = edge(segment);
        newest_ack_ = ack;
      }
    }
  }
  const uint32_t end = segment.seq + segment.length();
  if (!segment.has(rst) && (!guest_snd_ || static_cast<int32_t>(end - *guest_snd_) > 0)) {
    guest_snd_ = end;
  }
  if (segment.has(rst)) {
    guest_reset_ = true;
    settle_all(Fate::broken, Cause::guest_reset);
  }
}

void Oracle::show(int64_t ack, int64_t edge) {
  shown_ack_ = std::max(shown_ack_, ack);
  // What the guest has taken back is gone once the peer is shown so.
  shown_edge_ = std::max(edge, std::min(shown_edge_, newest_edge_));
}

bool Oracle::moves_left(int64_t ack, int64_t edge, int64_t own) const {
  // Of an ACK below one that the peer has had it looks at nothing (RFC 9293 3.10.7.4).
  if (ack < peer_una_) return false;
  return edge <= std::min({shown_edge_, newest_edge_, own}) - (1 << handshake_.shift());
}

void Oracle::promise(int64_t ack, int64_t now_ns) {
  const int64_t start = std::max(guest_ack_, promised_);
  if (ack <= start) return;
  if (!handshake_.complete()) complain("P12: promise on a connection whose handshake was not seen");
  if (ack > right_edge_) {
    complain(fmt::format("I2: early ACK {} is {} bytes beyond the guest's right edge", ack,
                         ack - right_edge_));
  }
  if (ack > contiguous_) {
    complain(fmt::format("I1: early ACK {}, but only {} bytes came in order", ack, contiguous_));
  }
  if (guest_fin_) complain("G8: promise after the guest's FIN");
  if (guest_reset_ || stopped_) complain("G6: promise after a reset");
  open_.push_back({start, ack, now_ns});
  promised_ = ack;
}

void Oracle::passed(const Segment& original, const Segment& shown, bool tracked, int64_t now_ns) {
  if (stopped_ || guest_reset_ || original.checksum == Checksum::bad) return;
  if (shown.kind != original.kind || shown.seq != original.seq || shown.flags != original.flags ||
      shown.payload != original.payload || shown.checksum != original.checksum) {
    complain("G2: the edit damaged the guest's segment");
    return;
  }
  if (!shown.has(ack_flag) || shown.has(rst) || !started_) return;
  const int64_t ack = position(shown.ack), to = edge(shown), own = edge(original);
  // A repeated SYN-ACK says nothing of what came after it. An ACK of the guest's own from before it
  // confirmed everything is only late, as it would be without us.
  // And a peer that has reset the connection has nothing that an ACK could contradict.
  if (!shown.has(syn) && !peer_reset_ && ack < promised_ && guest_ack_ < promised_) {
    complain(fmt::format("I4: the guest's segment shows ACK {}, the peer had {}", ack, promised_));
  }
  if (moves_left(ack, to, own)) {
    complain(fmt::format("I4: right edge moved left from {} to {}", shown_edge_, to));
  }
  if (to > std::max(right_edge_, own)) {
    complain(fmt::format("I2: shows right edge {}, the guest's is {}", to, right_edge_));
  }
  if (shown.ack != original.ack) promise(ack, now_ns);
  if (ack <= peer_end_ + farthest_ack) peer_una_ = std::max(peer_una_, ack);
  if (tracked) show(ack, to);
}

void Oracle::dropped(const Segment& original) {
  if (stopped_ || original.checksum == Checksum::bad) return;
  if (original.flags != ack_flag || original.payload) {
    complain("I6: dropped a guest's segment that is no pure ACK");
  } else if (position(original.ack) > shown_ack_) {
    complain(fmt::format("I6: dropped ACK {}, the peer has only been shown {}",
                         position(original.ack), shown_ack_));
  }
}

void Oracle::emitted(const Segment& segment, int64_t now_ns) {
  if (segment.kind != Segment::Kind::tcp || segment.checksum != Checksum::good) {
    complain("emitted a frame that does not parse or whose checksum is wrong");
    return;
  }
  if (segment.has(rst)) {
    stopped_ = true;
    // A guest that got what it would not have got cannot tell whether giving up was right.
    if (!diverged_) settle_all(Fate::broken, Cause::gave_up);
    return;
  }
  const int64_t ack = position(segment.ack), to = edge(segment);
  if (ack < shown_ack_) {
    complain(fmt::format("I4: ACK moved left from {} to {}", shown_ack_, ack));
  }
  if (moves_left(ack, to, newest_edge_)) {
    complain(fmt::format("I4: right edge moved left from {} to {}", shown_edge_, to));
  }
  if (to > right_edge_) {
    complain(fmt::format("I2: shows right edge {}, the guest's is {}", to, right_edge_));
  }
  if (guest_snd_ && static_cast<int32_t>(segment.seq - *guest_snd_) > 0) {
    complain("early ACK's sequence number is beyond what the guest has sent");
  }
  promise(ack, now_ns);
  peer_una_ = std::max(peer_una_, ack);
  show(ack, to);
}

void Oracle::finish(bool tuple_reused) {
  for (Promise& promise : open()) {
    if (promise.refusals >= refusals_that_prove) {
      settle(promise, Fate::broken, Cause::refused);
    } else if (tuple_reused && guest_spoke_ns_ > promise.time_ns) {
      settle(promise, Fate::broken, Cause::reused);
    } else {
      settle(promise, Fate::open, peer_reset_ ? Cause::peer_reset : Cause::capture_ends);
    }
  }
  open_.clear();
  first_open_ = 0;
}

}  // namespace vsnoop::replay
