// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tests/packets/script.h"

#include <cmath>
#include <fstream>
#include <regex>
#include <sstream>
#include <stdexcept>

namespace vsnoop_test {
namespace {

uint32_t number(const std::string& text) {
  return static_cast<uint32_t>(std::strtoll(text.c_str(), nullptr, 10));
}

// "mss 1000,sackOK,TS val 1 ecr 0,nop,wscale 7,sack 1:2 3:4"
void read_options(const std::string& text, ScriptPacket& p) {
  std::istringstream list(text);
  for (std::string option; std::getline(list, option, ',');) {
    std::istringstream words(option);
    std::string name, value, word;
    words >> name >> value;
    if (name == "mss") {
      p.mss = static_cast<uint16_t>(number(value));
    } else if (name == "wscale") {
      p.wscale = static_cast<int>(number(value));
    } else if (name == "sackOK") {
      p.sackok = true;
    } else if (name == "TS") {  // val V ecr E
      std::string val = "0", ecr = "0";
      words >> val >> word >> ecr;
      p.ts = {number(val), number(ecr)};
    } else if (name == "sack") {
      for (word = value; !word.empty(); word.clear(), words >> word) {
        const size_t colon = word.find(':');
        if (colon == std::string::npos) break;
        p.sack.push_back({number(word), number(word.substr(colon + 1))});
      }
    } else if (name == "...") {
      p.any_options = true;
    } else if (name != "nop" && name != "eol" && !name.empty()) {
      p.odd_option = {253, 4, 0, 0};  // one that vsnoop does not know, either
    }
  }
}

std::optional<ScriptPacket> read_packet(const std::string& text) {
  static const std::regex form(
      R"(^\s*(?:\[[^\]]*\]\s*)?([FSRPEWAU.]+|-)\s+(-?\d+):(-?\d+)\((\d+)\)(.*)$)");
  std::smatch m;
  if (!std::regex_match(text, m, form)) return std::nullopt;
  ScriptPacket p;
  p.text = text;
  for (const char letter : m[1].str()) {
    switch (letter) {
      case 'F':
        p.flags |= FIN;
        break;
      case 'S':
        p.flags |= SYN;
        break;
      case 'R':
        p.flags |= RST;
        break;
      case 'P':
        p.flags |= PSH;
        break;
      case '.':
        p.flags |= ACK;
        break;
      case 'U':
        p.flags |= URG;
        break;
      case 'E':
        p.flags |= ECE;
        break;
      case 'W':
        p.flags |= CWR;
        break;
      default:
        break;
    }
  }
  p.seq = number(m[2]);
  p.length = number(m[4]);
  std::string rest = m[5];
  const size_t open = rest.find('<'), close = rest.rfind('>');
  if (open != std::string::npos && close != std::string::npos) {
    read_options(rest.substr(open + 1, close - open - 1), p);
    rest = rest.substr(0, open);
  }
  std::istringstream words(rest);
  for (std::string word, value; words >> word;) {
    if (word == "ack" && words >> value) p.ack = number(value);
    if (word == "win" && words >> value) p.window = static_cast<uint16_t>(number(value));
  }
  return p;
}

}  // namespace

std::vector<ScriptStep> read_script(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(path + ": cannot be read");
  std::vector<ScriptStep> steps;
  unsigned line_number = 0;
  bool python = false, shell = false, comment = false;
  for (std::string line; std::getline(file, line);) {
    ++line_number;
    // What packetdrill brackets over several lines.
    if (python || line.find("%{") != std::string::npos) {
      python = line.find("}%") == std::string::npos;
      continue;
    }
    if (comment || line.rfind("/*", 0) == 0) {
      comment = line.find("*/") == std::string::npos;
      continue;
    }
    const auto ticks = std::count(line.begin(), line.end(), '`');
    if (shell || ticks) {
      shell = shell != (ticks % 2 == 1);
      continue;
    }
    if (const size_t at = line.find("//"); at != std::string::npos) line.resize(at);
    static const std::regex form(
        R"(^\s*(\+?[\d.]+(?:~\+?[\d.]+)?)?\s*(<|>|vsnoop>|vsnoop<|peer sees|guest gets|host)\s+(.*?)\s*$)");
    std::smatch m;
    if (!std::regex_match(line, m, form)) continue;
    ScriptStep step;
    step.line = line_number;
    if (std::string time = m[1]; !time.empty()) {
      step.relative = time[0] == '+';
      step.at = std::strtod(time.c_str() + step.relative, nullptr);
    }
    const std::string who = m[2], what = m[3];
    const bool foreign = who == "<" || who == ">";
    step.kind = who == "<"            ? ScriptStep::peer
                : who == ">"          ? ScriptStep::guest
                : who == "vsnoop>"    ? ScriptStep::vsnoop_to_peer
                : who == "vsnoop<"    ? ScriptStep::vsnoop_to_guest
                : who == "peer sees"  ? ScriptStep::peer_sees
                : who == "guest gets" ? ScriptStep::guest_gets
                                      : ScriptStep::host;
    if (step.kind == ScriptStep::host) {
      step.words = what;
    } else if (who == "<" && what == "corrupt") {
      step.kind = ScriptStep::corrupt;
    } else if (what != "nothing" || foreign) {
      step.packet = read_packet(what);
      if (!step.packet && foreign) continue;  // ICMP, UDP
      if (!step.packet)
        throw std::runtime_error(path + ":" + std::to_string(line_number) + ": no packet: " + what);
    }
    steps.push_back(step);
  }
  return steps;
}

namespace {

class Player {
 public:
  explicit Player(const std::vector<ScriptStep>& steps) : steps_(steps) {}
  ScriptResult play();

 private:
  void configure();
  void set(const ScriptStep& step);
  Packet packet_of(const ScriptPacket& p, bool from_peer) const;
  bool next_is(size_t i, const char* words) const {
    return i + 1 < steps_.size() && steps_[i + 1].kind == ScriptStep::host &&
           steps_[i + 1].words == words;
  }
  void peer(size_t i);
  void guest(const ScriptStep& step);
  void host(const ScriptStep& step);
  void expect(const ScriptStep& step, std::vector<Packet>& from, size_t& next, const char* what);
  void collect();
  void complain(const ScriptStep& step, const std::string& what) {
    result_.faults.push_back("line " + std::to_string(step.line) + ": " + what);
  }
  void leftovers(const ScriptStep& step);

  const std::vector<ScriptStep>& steps_;
  Setup setup_;
  Options options_;
  bool manual_ = false, strict_ = false;
  std::unique_ptr<World> world_;
  std::unique_ptr<Connection> c_;
  std::vector<Packet> to_peer_, to_guest_, delivered_;
  size_t next_to_peer_ = 0, next_to_guest_ = 0, next_delivered_ = 0;
  std::optional<Outcome> last_guest_;
  std::vector<std::pair<uint32_t, uint32_t>> promises_;  // open ones
  uint32_t promised_ = 1;
  ScriptResult result_;
};

void Player::set(const ScriptStep& step) {
  std::istringstream words(step.words.substr(4));
  std::string name;
  uint64_t value = 0;
  words >> name >> value;
  const auto v = static_cast<uint32_t>(value);
  if (name == "budget")
    setup_.guest.budget = v;
  else if (name == "flow_budget")
    setup_.guest.flow_budget = v;
  else if (name == "total_budget")
    setup_.engine.budget = value;
  else if (name == "custodies")
    setup_.engine.custodies = v;
  else if (name == "liveness_us")
    setup_.guest.liveness_us = v;
  else if (name == "giveup_us")
    setup_.guest.giveup_us = v;
  else if (name == "promise_age_us")
    setup_.guest.promise_age_us = v;
  else if (name == "timer_floor_us")
    setup_.guest.timer_floor_us = v;
  else if (name == "early_sack")
    setup_.guest.early_sack = v != 0;
  else if (name == "auto")
    setup_.guest.engage = v ? VSNOOP_ENGAGE_AUTO : VSNOOP_ENGAGE_ALWAYS;
  else if (name == "ring_policy")
    setup_.guest.policy = v ? VSNOOP_POLICY_RING : VSNOOP_POLICY_HOLD;
  else
    complain(step, "no setting " + name);
}

// Options of the connection are those of the script's SYN segments.
void Player::configure() {
  bool first = true;
  options_.ts = options_.sack = false;
  options_.peer_wscale = options_.guest_wscale = -1;
  for (const ScriptStep& step : steps_) {
    if (step.kind == ScriptStep::host && step.words.rfind("set ", 0) == 0) set(step);
    if (step.kind == ScriptStep::host && step.words == "manual") manual_ = true;
    strict_ |= step.kind != ScriptStep::peer && step.kind != ScriptStep::guest &&
               step.kind != ScriptStep::host && step.kind != ScriptStep::corrupt;
    if (step.kind != ScriptStep::peer && step.kind != ScriptStep::guest) continue;
    if (!step.packet || !(step.packet->flags & SYN)) continue;
    const ScriptPacket& p = *step.packet;
    const bool from_peer = step.kind == ScriptStep::peer;
    if (first) options_.guest_opens = !from_peer, first = false;
    (from_peer ? options_.peer_wscale : options_.guest_wscale) = p.wscale.value_or(-1);
    if (p.window) options_.syn_window = *p.window;
    if (p.mss) options_.mss = *p.mss;
    if (p.flags & ACK) options_.ts = p.ts.has_value(), options_.sack = p.sackok;
  }
  const bool scaled = options_.peer_wscale >= 0 && options_.guest_wscale >= 0;
  const auto raw = [&](int shift) {
    return static_cast<uint16_t>(65535u >> (scaled ? std::min(shift, 14) : 0));
  };
  options_.guest_window = raw(options_.guest_wscale);
  options_.peer_window = raw(options_.peer_wscale);
}

Packet Player::packet_of(const ScriptPacket& p, bool from_peer) const {
  Packet packet = Packet().seq(p.seq).length(p.length).clear(ACK).set(p.flags);
  if (p.ack) packet.ack(*p.ack);
  if (p.window) packet.window(*p.window);
  if (p.ts)
    packet.ts(p.ts->first, p.ts->second);
  else if (!p.any_options)
    packet.no_ts();
  if (p.flags & SYN) {
    if (p.mss) packet.mss(*p.mss);
    if (p.wscale) packet.wscale(*p.wscale);
    packet.sackok(p.sackok);
  }
  if (!p.sack.empty()) packet.sack(p.sack);
  if (!p.odd_option.empty()) packet.option(p.odd_option);
  if (manual_ && from_peer) {  // as the promise oracle's host charges
    uint32_t memory = 512;
    const uint32_t bytes = 54 + p.length + (p.ts ? 12 : 0) + (p.mss ? 4 : 0) + (p.sackok ? 4 : 0) +
                           (p.wscale ? 4 : 0) +
                           (p.sack.empty() ? 0 : 4 + 8 * static_cast<uint32_t>(p.sack.size()));
    while (memory < bytes + 300) memory *= 2;
    packet.memory(memory);
  }
  return packet;
}

void Player::collect() {
  for (const Packet& p : c_->emitted()) {
    to_peer_.push_back(p);
    if (p.has(RST) || distance(p.ack(), promised_) <= 0) continue;
    ++result_.early_acks;
    result_.promised += p.ack() - promised_;
    promises_.push_back({promised_, p.ack()});
    promised_ = p.ack();
  }
  for (const Packet& p : c_->resets_to_guest()) to_guest_.push_back(p);
  for (const Packet& p : c_->delivered()) delivered_.push_back(p);
}

void Player::peer(size_t i) {
  const ScriptStep& step = steps_[i];
  const size_t before = world_->ring().size();
  const Outcome o = c_->peer(packet_of(*step.packet, true), !next_is(i, "declines"));
  if (manual_ && o.passed && !next_is(i, "push") && world_->ring().size() > before &&
      !(next_is(i, "declines") && i + 2 < steps_.size() && steps_[i + 2].words == "push"))
    world_->ring().pop_back();  // there was no room
}

void Player::guest(const ScriptStep& step) {
  last_guest_ = c_->guest(packet_of(*step.packet, false));
  const ScriptPacket& p = *step.packet;
  if (p.flags & RST) {
    for (const auto& [begin, end] : promises_) result_.broken += end - begin;
    promises_.clear();
    return;
  }
  if (!p.ack || p.flags & SYN) return;
  if (distance(*p.ack, promised_) > 0) promised_ = *p.ack;
  for (auto& [begin, end] : promises_) {
    const uint32_t to = distance(*p.ack, end) < 0 ? *p.ack : end;
    if (distance(to, begin) > 0) result_.kept += to - begin, begin = to;
  }
  std::erase_if(promises_, [](const auto& range) { return range.first == range.second; });
}

void Player::host(const ScriptStep& step) {
  const std::string& w = step.words;
  if (w == "manual" || w == "push" || w == "declines" || w.rfind("set ", 0) == 0) return;
  vsnoop_feed next;
  const auto waits = [&] { return vsnoop_next(world_->engine(), 0, &next, world_->now()) != 0; };
  if (w == "discards") {
    while (waits() && next.discard) world_->feed(0, 1);
  } else if (w == "waits" || w == "rests") {
    if (waits() != (w == "waits")) complain(step, waits() ? "a frame waits" : "no frame waits");
  } else if (w == "feed") {
    if (!world_->feed(0, 1)) complain(step, "no frame waits");
  } else if (w == "consumed" || w == "progress") {
    if (!world_->consume(0, 1)) complain(step, "the ring is empty");
  } else if (w == "loses ring") {
    world_->lose_ring();
  } else if (w == "quiesce" || w == "resume") {
    world_->quiesce(w == "quiesce");
  } else if (w == "stop") {
    world_->stop();
  } else {
    complain(step, "the host cannot " + w);
  }
}

void Player::expect(const ScriptStep& step, std::vector<Packet>& from, size_t& next,
                    const char* what) {
  if (!step.packet) {
    if (next < from.size())
      complain(step, std::string(what) + " nothing, but there is " + from[next].text());
    return;
  }
  if (next == from.size())
    return complain(step, std::string(what) + step.packet->text + ", but there is nothing");
  const Packet& got = from[next++];
  const ScriptPacket& p = *step.packet;
  const bool same = got.flags() == p.flags && got.seq() == p.seq && got.length() == p.length &&
                    (!p.ack || got.ack() == *p.ack) && (!p.window || got.window() == *p.window) &&
                    (p.sack.empty() || got.sack() == p.sack) &&
                    (!p.ts || (got.tsval() == p.ts->first && got.tsecr() == p.ts->second));
  if (!same)
    complain(step, std::string(what) + "\n    expected " + p.text + "\n    actual   " + got.text());
}

// Frames of vsnoop that no line of the script has named.
void Player::leftovers(const ScriptStep& step) {
  if (!strict_) return;
  for (; next_to_peer_ < to_peer_.size(); ++next_to_peer_)
    complain(step, "before it vsnoop sent the peer " + to_peer_[next_to_peer_].text());
  for (; next_to_guest_ < to_guest_.size(); ++next_to_guest_)
    complain(step, "before it vsnoop sent the guest " + to_guest_[next_to_guest_].text());
}

ScriptResult Player::play() {
  configure();
  if (manual_) setup_.start_us = 0;
  world_ = std::make_unique<World>(setup_);
  world_->automatic = !manual_;
  c_ = std::make_unique<Connection>(*world_, options_);
  bool established = false;
  for (size_t i = 0; i < steps_.size(); ++i) {
    const ScriptStep& step = steps_[i];
    const bool acts = step.kind == ScriptStep::peer || step.kind == ScriptStep::guest ||
                      step.kind == ScriptStep::host || step.kind == ScriptStep::corrupt;
    if (step.at) {
      const double since =
          step.relative ? 0 : static_cast<double>(world_->now()) / 1e6 - (manual_ ? 0 : 1.0);
      const double wait = *step.at - since;
      if (wait > 0) world_->advance_us(static_cast<uint64_t>(std::llround(wait * 1e6)));
      collect();
    }
    // Timers speak at the time of the expectation; everything else before the next act.
    if (acts) leftovers(step);
    if (step.packet && step.packet->flags & SYN && step.kind == ScriptStep::peer && established &&
        step.packet->seq != 0)
      break;  // another connection
    switch (step.kind) {
      case ScriptStep::peer:
        peer(i);
        ++result_.packets;
        break;
      case ScriptStep::guest:
        guest(step);
        ++result_.packets;
        break;
      case ScriptStep::corrupt:
        world_->ring().push_back({{}, nullptr, 0, false});
        break;
      case ScriptStep::host:
        host(step);
        break;
      case ScriptStep::vsnoop_to_peer:
        expect(step, to_peer_, next_to_peer_, "vsnoop sends the peer ");
        break;
      case ScriptStep::vsnoop_to_guest:
        expect(step, to_guest_, next_to_guest_, "vsnoop sends the guest ");
        break;
      case ScriptStep::guest_gets:
        expect(step, delivered_, next_delivered_, "the guest gets ");
        break;
      case ScriptStep::peer_sees: {
        std::vector<Packet> seen;
        if (last_guest_ && last_guest_->seen) seen.push_back(*last_guest_->seen);
        size_t next = 0;
        expect(step, seen, next, "the peer sees ");
        break;
      }
    }
    collect();
    established |= c_->tracked();
  }
  if (!steps_.empty()) leftovers(steps_.back());
  for (const auto& [begin, end] : promises_) result_.open += end - begin;
  result_.tracked = established;
  return result_;
}

}  // namespace

ScriptResult play(const std::vector<ScriptStep>& steps) { return Player(steps).play(); }

}  // namespace vsnoop_test
