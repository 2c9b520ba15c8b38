// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/live/report.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/units.h"

namespace vsnoop::live {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kRefusalsShown = 3;

uint64_t dropped(const BridgeCounts& counts) {
  return counts.ring_full + counts.guest_down + counts.peer_down + counts.send_failed +
         counts.no_buffer;
}

Json traffic(const Traffic& t) { return {{"frames", t.frames}, {"bytes", t.bytes}}; }

double mean(uint64_t sum, uint64_t count) {
  return count ? static_cast<double>(sum) / static_cast<double>(count) : 0;
}

Json settings(const BridgeConfig& config) {
  Json json = {{"policy", policy_name(config.guest.policy)},
               {"ring_slots", config.ring_slots},
               {"rate_bits_per_second", config.rate},
               {"vcpus", config.vcpu.vcpus}};
  if (config.vcpu.vcpus > 1) {
    json["slice_us"] = config.vcpu.slice / kMicrosecond;
    json["guest"] = config.vcpu.io ? "io" : "busy";
    json["linger_us"] = config.vcpu.linger / kMicrosecond;
  }
  if (config.guest.policy == VSNOOP_POLICY_OFF) return json;
  json["engage"] = config.guest.engage == VSNOOP_ENGAGE_AUTO ? "auto" : "always";
  json["early_sack"] = config.guest.early_sack != 0;
  json["hold_bytes"] = config.guest.budget;
  json["total_bytes"] = config.engine.budget;
  json["flows"] = config.engine.flows;
  json["liveness_us"] = config.guest.liveness_us;
  return json;
}

Json dropped_part(const Subject& subject) {
  const BridgeCounts& counts = subject.bridge.counts();
  const PortLosses peer = subject.peer.losses(), guest = subject.guest.losses();
  return {{"ring_full", counts.ring_full},
          {"guest_down", counts.guest_down},
          {"peer_down", counts.peer_down},
          {"send_failed", counts.send_failed},
          {"no_buffer", counts.no_buffer},
          {"by_the_rules_from_peer", counts.engine_from_peer},
          {"by_the_rules_from_guest", counts.engine_from_guest},
          {"peer_port_overrun", peer.overrun},
          {"guest_port_overrun", guest.overrun},
          {"oversized", peer.oversized + guest.oversized},
          {"refused_too_long", peer.too_long + guest.too_long},
          {"refused_no_room", peer.no_room + guest.no_room},
          {"refused_by_kernel", peer.refused + guest.refused}};
}

Json engine_part(const struct vsnoop_guest_stats& stats, uint32_t flows) {
  Json reasons = Json::object();
  for (unsigned i = 0; i < VSNOOP_REASONS; ++i)
    if (stats.reasons[i]) reasons[vsnoop_reason_name(static_cast<uint8_t>(i))] = stats.reasons[i];
  return {{"early_acks", stats.early_acks},
          {"promised_bytes", stats.promised_bytes},
          {"outstanding_bytes", stats.outstanding},
          {"redelivered_frames", stats.redelivered_frames},
          {"guest_acks_dropped", stats.acks_dropped},
          {"guest_segments_rebased", stats.acks_edited},
          {"latency_samples", stats.latency_samples},
          {"latency_mean_us", mean(stats.latency_us_sum, stats.latency_samples)},
          {"peak_held_bytes", stats.peak_held},
          {"flows", flows},
          {"reasons", reasons}};
}

}  // namespace

const char* policy_name(uint8_t policy) {
  return policy == VSNOOP_POLICY_OFF ? "off" : policy == VSNOOP_POLICY_RING ? "ring" : "hold";
}

Json report(const Subject& subject, uint64_t now) {
  const Bridge& bridge = subject.bridge;
  const BridgeCounts& counts = bridge.counts();
  Json json = {{"seconds", static_cast<double>(now - subject.started) / kSecond},
               {"settings", settings(subject.config)},
               {"guest_ran_seconds", static_cast<double>(bridge.vcpu_ran(now)) / kSecond},
               {"from_peer", traffic(counts.from_peer)},
               {"to_guest", traffic(counts.to_guest)},
               {"from_guest", traffic(counts.from_guest)},
               {"to_peer", traffic(counts.to_peer)},
               {"emitted", counts.emitted},
               {"dropped", dropped_part(subject)},
               {"ring_peak_slots", bridge.ring_peak()},
               {"link_queue_peak_bytes", counts.peak_queue},
               {"guest_lost", counts.guest_lost},
               {"peer_lost", counts.peer_lost},
               {"broken_connections", counts.connections_broken},
               {"broken_promise_bytes", bridge.broken()}};
  if (!subject.faulty.empty()) {
    FaultCounts sum;
    for (const FaultyPort* port : subject.faulty) {
      sum.lost += port->counts().lost;
      sum.repeated += port->counts().repeated;
      sum.held += port->counts().held;
      sum.corrupted += port->counts().corrupted;
    }
    json["faults"] = {{"lost", sum.lost},
                      {"repeated", sum.repeated},
                      {"held", sum.held},
                      {"corrupted", sum.corrupted}};
  }
  if (const auto* stats = bridge.engine_stats())
    json["engine"] = engine_part(*stats, bridge.flows());
  return json;
}

namespace {

// One family of Prometheus's text format.
class Family {
 public:
  Family(std::string& out, const char* name, const char* type, const char* help)
      : out_(out), name_(name) {
    out_ +=
        fmt::format("# HELP vsnoop_live_{} {}\n# TYPE vsnoop_live_{} {}\n", name, help, name, type);
  }
  Family& add(double value, const std::string& labels = "") {
    out_ += fmt::format("vsnoop_live_{}{} {}\n", name_, labels.empty() ? "" : "{" + labels + "}",
                        value);
    return *this;
  }
  Family& add(uint64_t value, const std::string& labels = "") {
    out_ += fmt::format("vsnoop_live_{}{} {}\n", name_, labels.empty() ? "" : "{" + labels + "}",
                        value);
    return *this;
  }

 private:
  std::string& out_;
  const char* name_;
};

}  // namespace

std::string metrics(const Subject& subject, uint64_t now) {
  const Bridge& bridge = subject.bridge;
  const BridgeCounts& counts = bridge.counts();
  std::string out;
  Family(out, "uptime_seconds", "gauge", "Time since the start.")
      .add(static_cast<double>(now - subject.started) / kSecond);
  const struct {
    const char* label;
    const Traffic& traffic;
  } ways[] = {{"direction=\"from_peer\"", counts.from_peer},
              {"direction=\"to_guest\"", counts.to_guest},
              {"direction=\"from_guest\"", counts.from_guest},
              {"direction=\"to_peer\"", counts.to_peer}};
  Family frames(out, "frames_total", "counter", "Frames; a super-frame is one.");
  for (const auto& way : ways) frames.add(way.traffic.frames, way.label);
  Family bytes(out, "bytes_total", "counter", "Bytes of frames, headers included.");
  for (const auto& way : ways) bytes.add(way.traffic.bytes, way.label);
  Family drops(out, "dropped_frames_total", "counter", "Frames dropped, by cause.");
  const Json causes = dropped_part(subject);
  for (const auto& [cause, number] : causes.items())
    if (cause != "send_failed")  // the sum of those that begin with refused_
      drops.add(number.get<uint64_t>(), fmt::format("cause=\"{}\"", cause));
  Family(out, "interface_lost_total", "counter", "Times that an interface went away.")
      .add(counts.guest_lost, "side=\"guest\"")
      .add(counts.peer_lost, "side=\"peer\"");
  Family(out, "broken_connections_total", "counter",
         "Connections reset because promises could not be kept.")
      .add(counts.connections_broken);
  Family(out, "broken_promise_bytes_total", "counter", "Bytes promised in those.")
      .add(bridge.broken());
  Family(out, "ring_slots_used", "gauge", "Slots of the guest's ring in use.")
      .add(uint64_t{bridge.ring_used()});
  const auto* stats = bridge.engine_stats();
  if (!stats) return out;
  Family(out, "connections", "gauge", "Connections tracked.").add(uint64_t{bridge.flows()});
  Family(out, "early_acks_total", "counter", "ACKs that promised something new.")
      .add(stats->early_acks);
  Family(out, "promised_bytes_total", "counter", "Bytes acknowledged early.")
      .add(stats->promised_bytes);
  Family(out, "outstanding_bytes", "gauge", "Bytes promised, not yet confirmed by the guest.")
      .add(stats->outstanding);
  Family(out, "held_bytes", "gauge", "Memory of frames in custody.").add(stats->held);
  Family(out, "redelivered_frames_total", "counter", "Frames delivered to the guest again.")
      .add(stats->redelivered_frames);
  Family(out, "guest_latency_seconds", "summary", "From taking data to the guest's own ACK.");
  out += fmt::format("vsnoop_live_guest_latency_seconds_sum {}\n",
                     static_cast<double>(stats->latency_us_sum) * 1e-6);
  out += fmt::format("vsnoop_live_guest_latency_seconds_count {}\n", stats->latency_samples);
  Family reasons(out, "reasons_total", "counter", "Verdicts and events, by reason.");
  for (unsigned i = 0; i < VSNOOP_REASONS; ++i)
    if (stats->reasons[i])
      reasons.add(stats->reasons[i],
                  fmt::format("reason=\"{}\"", vsnoop_reason_name(static_cast<uint8_t>(i))));
  return out;
}

// The reasons that refused most promises since the last time.
std::string StatsLine::refusals(const uint64_t* reasons) {
  struct Count {
    uint64_t times;
    unsigned reason;
  };
  std::vector<Count> moved;
  for (unsigned i = 0; i < VSNOOP_REASONS; ++i) {
    if (vsnoop_reason_class(i) == VSNOOP_CLASS_refused && reasons[i] != reasons_[i])
      moved.push_back({reasons[i] - reasons_[i], i});
    reasons_[i] = reasons[i];
  }
  std::sort(moved.begin(), moved.end(),
            [](const Count& a, const Count& b) { return a.times > b.times; });
  std::string text;
  for (size_t i = 0; i < std::min(moved.size(), kRefusalsShown); ++i)
    text += fmt::format("{}{} {}", i ? ", " : " | not promised: ",
                        vsnoop_reason_name(static_cast<uint8_t>(moved[i].reason)), moved[i].times);
  return text;
}

std::string StatsLine::next(uint64_t now) {
  const BridgeCounts& counts = subject_.bridge.counts();
  const double seconds = static_cast<double>(std::max<uint64_t>(now - last_at_, 1)) / kSecond;
  const uint64_t drops = dropped(counts);
  std::string text =
      fmt::format("{:5.0f} s | in {:.1f} Mb/s out {:.1f} Mb/s | ring {}/{}, {} dropped",
                  static_cast<double>(now - subject_.started) / kSecond,
                  static_cast<double>(counts.from_peer.bytes - in_) * 8e-6 / seconds,
                  static_cast<double>(counts.to_peer.bytes - out_) * 8e-6 / seconds,
                  subject_.bridge.ring_used(), subject_.config.ring_slots, drops - drops_);
  if (const auto* stats = subject_.bridge.engine_stats()) {
    text += fmt::format(" | early ACKs {:.0f}/s, {} flows, outstanding {} kB, held {} kB, again {}",
                        static_cast<double>(stats->early_acks - early_) / seconds,
                        subject_.bridge.flows(), stats->outstanding / 1000, stats->held / 1000,
                        stats->redelivered_frames);
    text += refusals(stats->reasons);
    early_ = stats->early_acks;
  }
  in_ = counts.from_peer.bytes;
  out_ = counts.to_peer.bytes;
  drops_ = drops;
  last_at_ = now;
  return text;
}

}  // namespace vsnoop::live
