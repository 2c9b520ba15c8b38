// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/plan.h"

#include <algorithm>
#include <functional>
#include <string_view>

namespace vsnoop::replay {
namespace {

constexpr size_t most_guests = 4096;  // an engine's guests cost memory each

struct ChecksumCount {
  uint64_t partial = 0, filled = 0;
};

bool is_named(const std::vector<Prefix>& named, const Address& address) {
  return std::any_of(named.begin(), named.end(),
                     [&](const Prefix& prefix) { return prefix.holds(address); });
}

// Nobody received anything: a side that is a guest elsewhere, else the one that spoke first.
int idle_side(const Connection& connection, const Plan& plan) {
  return !plan.guest_of.contains(connection.sides[0].address) &&
                 plan.guest_of.contains(connection.sides[1].address)
             ? 1
             : 0;
}

void choose_guest(Connection& connection, const std::vector<Prefix>& named, Plan& plan) {
  const auto& [a, b] = connection.sides;
  int side = a.received == b.received ? idle_side(connection, plan) : b.received > a.received;
  if (!named.empty()) {
    const bool first = is_named(named, a.address), second = is_named(named, b.address);
    if (!first && !second) return;
    if (first != second) side = second;
  }
  const Connection::Side& end = connection.sides[static_cast<size_t>(side)];
  auto found = plan.guest_of.find(end.address);
  if (found == plan.guest_of.end()) {
    if (plan.guests.size() == most_guests) return;
    found = plan.guest_of.emplace(end.address, static_cast<uint16_t>(plan.guests.size())).first;
    plan.guests.push_back({end.address, 0, 0});
  }
  connection.guest_side = side;
  connection.guest = found->second;
  plan.guests[found->second].received += end.received;
  plan.guests[found->second].connections++;
}

void choose_guests(const std::vector<Prefix>& named, Plan& plan) {
  auto idle = [](const Connection& c) { return c.sides[0].received == c.sides[1].received; };
  for (const bool last : {false, true}) {  // the idle ones follow what the others showed
    for (Connection& connection : plan.connections) {
      if (idle(connection) == last) choose_guest(connection, named, plan);
    }
  }
}

}  // namespace

size_t ConnectionTable::Hash::operator()(const Key& key) const {
  auto text = [](const Address& address) {
    return std::string_view(reinterpret_cast<const char*>(address.bytes.data()), 16);
  };
  const std::hash<std::string_view> hash;
  return hash(text(key.low)) * 31 + hash(text(key.high)) * 17 +
         (static_cast<size_t>(key.low_port) << 16 | key.high_port) * 0x9e3779b97f4a7c15u;
}

ConnectionTable::Key ConnectionTable::key_of(const Segment& segment) {
  Key key{segment.source, segment.destination, segment.source_port, segment.destination_port};
  if (std::tie(key.high, key.high_port) < std::tie(key.low, key.low_port)) {
    std::swap(key.low, key.high);
    std::swap(key.low_port, key.high_port);
  }
  return key;
}

uint32_t ConnectionTable::find(const Segment& segment) const {
  const auto found = entries_.find(key_of(segment));
  return found == entries_.end() ? no_connection : found->second.number;
}

ConnectionTable::Numbered ConnectionTable::number(const Segment& segment) {
  const auto [found, is_new] = entries_.try_emplace(key_of(segment));
  Entry& entry = found->second;
  if (is_new) entry.number = count_++;
  Numbered numbered{entry.number, no_connection, {}};
  // SYN and RST in one segment are a reset (RFC 9293 3.10.7.4).
  if (segment.checksum == Checksum::bad || segment.has(rst)) return numbered;
  if (!segment.has(syn)) {
    entry.data_seen = entry.data_seen || segment.payload;
    const auto past = [](uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) > 0; };
    if (entry.syn_ack && entry.syn_ack->source == segment.source)
      entry.taken = entry.taken || past(segment.ack, entry.syn_ack->ack) ||
                    past(segment.seq + segment.length(), entry.syn_ack->seq + 1);
  } else if (!segment.has(ack_flag)) {
    entry.last_syn = segment;
    entry.syn_after_data = entry.data_seen;
  } else {
    const bool repeated = entry.syn_ack && entry.syn_ack->seq == segment.seq &&
                          !(entry.syn_after_data && entry.taken);
    if (!repeated && (entry.syn_ack || entry.data_seen)) {
      numbered = {count_++, entry.number, {}};
      if (entry.last_syn && entry.last_syn->source == segment.destination)
        numbered.opening = entry.last_syn;
      entry = Entry();
      entry.number = numbered.number;
    }
    entry.syn_ack = segment;
  }
  return numbered;
}

Plan make_plan(const std::string& path, const std::vector<Prefix>& named) {
  CaptureReader reader(path);
  ConnectionTable table;
  std::map<Address, ChecksumCount> checksums;
  Plan plan;
  plan.link = reader.link_name();
  CapturedFrame frame;
  try {
    while (reader.next(frame)) {
      if (plan.frames++ == 0) plan.first_ns = plan.last_ns = frame.time_ns;
      plan.last_ns = std::max(plan.last_ns, frame.time_ns);
      const Segment segment = parse_segment(frame.bytes, frame.wire);
      if (segment.kind != Segment::Kind::tcp) continue;
      plan.tcp++;
      const auto [number, replaced, opening] = table.number(segment);
      if (replaced != no_connection) plan.connections[replaced].reused = true;
      if (number == plan.connections.size()) {
        plan.connections.push_back({});
        plan.connections.back().sides = {
            Connection::Side{segment.source, segment.source_port, 0},
            Connection::Side{segment.destination, segment.destination_port, 0}};
      }
      auto& [a, b] = plan.connections[number].sides;
      const bool from_a = a.address == segment.source && a.port == segment.source_port;
      (from_a ? b : a).received += segment.payload;
      ChecksumCount& count = checksums[segment.source];
      if (segment.checksum == Checksum::partial) count.partial++;
      if (segment.checksum == Checksum::good) count.filled++;
      if (segment.checksum == Checksum::bad) count.filled++;
    }
  } catch (const CaptureError& error) {
    plan.error = error.what();
  }
  // By accident one frame in 65536 looks partial. Some frames of an offloading host may come
  // filled in (resets, SYN cookies), hence "nearly all".
  for (const auto& [address, count] : checksums) {
    if (count.partial && count.partial >= count.filled * 4) plan.partial.insert(address);
  }
  choose_guests(named, plan);
  return plan;
}

}  // namespace vsnoop::replay
