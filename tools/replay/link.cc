// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "tools/replay/link.h"

#include <fmt/format.h>
#include <pcap/pcap.h>

#include <algorithm>
#include <array>

#include "tools/replay/capture.h"

namespace vsnoop::replay {
namespace {

constexpr size_t mac_bytes = 12;
// Locally administered; which of the two is the guest's does not matter.
constexpr std::array<uint8_t, mac_bytes> synthetic_macs{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
constexpr int most_layers = 16;

constexpr uint16_t type_ipv4 = 0x0800, type_ipv6 = 0x86dd;

bool is_tag(uint16_t type) {
  return type == 0x8100 || type == 0x88a8 || type == 0x9100 || type == 0x9200;
}

// Link types with a header of fixed length in front of the network header.
struct FixedLink {
  int type;
  uint32_t header;
  int ethertype_at;  // -1: told by the IP version
};
constexpr std::array fixed_links{
    FixedLink{DLT_RAW, 0, -1},        FixedLink{14, 0, -1},  // DLT_RAW of OpenBSD
    FixedLink{DLT_IPV4, 0, -1},       FixedLink{DLT_IPV6, 0, -1},
    FixedLink{DLT_NULL, 4, -1},       FixedLink{DLT_LOOP, 4, -1},
    FixedLink{DLT_ENC, 12, -1},       FixedLink{DLT_IPNET, 24, -1},
    FixedLink{DLT_SLIP, 16, -1},      FixedLink{DLT_APPLE_IP_OVER_IEEE1394, 18, 16},
    FixedLink{DLT_C_HDLC, 4, 2},      FixedLink{DLT_IPOIB, 44, 40},
    FixedLink{DLT_LINUX_SLL, 16, 14}, FixedLink{DLT_LINUX_SLL2, 20, 0}};

// Those with more to them; Peeler::link() knows how.
constexpr std::array other_links{DLT_EN10MB,       DLT_FDDI,
                                 DLT_IEEE802,      DLT_ATM_RFC1483,
                                 DLT_PPP,          DLT_PPP_SERIAL,
                                 DLT_PPP_ETHER,    DLT_PPP_PPPD,
                                 DLT_FRELAY,       DLT_MPLS,
                                 DLT_NFLOG,        DLT_PFLOG,
                                 DLT_IEEE802_11,   DLT_IEEE802_11_RADIO,
                                 DLT_PRISM_HEADER, DLT_IEEE802_11_RADIO_AVS,
                                 DLT_PPI,          DLT_NETANALYZER,
                                 DLT_ERF,          DLT_PKTAP,
                                 DLT_USER2};

// Walks from the link's header inwards. Every step looks only at bytes that are there.
class Peeler {
 public:
  Peeler(std::span<const uint8_t> bytes, Findings& findings) : bytes_(bytes), findings_(findings) {}

  // True if it came to an IP packet.
  bool link(int type);

  size_t at() const { return at_; }        // of the IP packet
  uint16_t type() const { return type_; }  // its EtherType
  // Where the last Ethernet header begins, if only VLAN tags stand between it and the IP packet.
  bool is_ethernet() const { return ethernet_at_ != nowhere && direct_; }
  size_t ethernet_at() const { return ethernet_at_; }
  bool has_macs() const { return ethernet_at_ != nowhere; }
  uint64_t place() const { return place_; }

 private:
  static constexpr size_t nowhere = SIZE_MAX;

  bool have(size_t n) const { return bytes_.size() >= at_ + n; }
  uint8_t byte(size_t i) const { return bytes_[at_ + i]; }
  uint16_t be16(size_t i) const { return static_cast<uint16_t>(byte(i) << 8 | byte(i + 1)); }
  uint32_t be32(size_t i) const { return static_cast<uint32_t>(be16(i)) << 16 | be16(i + 2); }
  uint16_t le16(size_t i) const { return static_cast<uint16_t>(byte(i + 1) << 8 | byte(i)); }
  void mix(uint64_t value) { place_ = (place_ ^ value) * 0x9e3779b97f4a7c15u; }
  bool skip(size_t n) {
    if (!have(n)) return unread("cut before its IP header");
    at_ += n;
    return true;
  }
  bool unread(const std::string& what) {
    findings_.unread[what]++;
    return false;
  }
  bool fragment(uint8_t protocol) {
    if (protocol == 6 || protocol == 4 || protocol == 41 || protocol == 47) {
      unread("fragment of an IP packet");
    }
    return true;
  }
  // A tunnel's own header is over; `inner` reads what it carries.
  template <typename Inner>
  bool through(const char* name, size_t header, Inner inner) {
    if (++layers_ > most_layers) return unread("nested too deep");
    if (!skip(header)) return false;
    findings_.through[name]++;
    mix(static_cast<uint64_t>(name[0]) << 8 | static_cast<uint8_t>(name[1]));
    direct_ = false;
    return inner();
  }

  bool ethernet();
  bool ether_type(uint16_t type);
  bool llc();
  bool ppp();
  bool raw();
  bool ipv4();
  bool ipv6();
  bool inside_ip(uint8_t protocol, size_t header);
  bool udp(size_t header);
  bool gre(size_t header);
  bool mpls();
  bool wlan(bool padded);
  bool radiotap();
  bool nflog();
  bool erf();
  bool token_ring();
  bool frame_relay();

  std::span<const uint8_t> bytes_;
  Findings& findings_;
  size_t at_ = 0, ethernet_at_ = nowhere;
  uint16_t type_ = 0;
  int layers_ = 0;
  bool direct_ = false;
  uint64_t place_ = 0;
};

bool Peeler::link(int type) {
  if (++layers_ > most_layers) return unread("nested too deep");
  for (const FixedLink& fixed : fixed_links) {
    if (fixed.type != type) continue;
    if (!have(fixed.header + 1)) return unread("cut before its IP header");
    if (type == DLT_LINUX_SLL2) mix(be32(4));  // the interface
    if (fixed.ethertype_at < 0) return skip(fixed.header) && raw();
    const uint16_t ether = be16(static_cast<size_t>(fixed.ethertype_at));
    at_ += fixed.header;
    return ether == 4 ? llc() : ether_type(ether);
  }
  switch (type) {
    case DLT_EN10MB:
      return ethernet();
    case DLT_FDDI:
      return skip(13) && llc();
    case DLT_IEEE802:
      return token_ring();
    case DLT_ATM_RFC1483:
      return llc();
    case DLT_PPP:
    case DLT_PPP_SERIAL:
      // Cisco's HDLC goes by the same link type.
      if (have(4) && (byte(0) == 0x0f || byte(0) == 0x8f)) {
        const uint16_t ether = be16(2);
        return skip(4) && ether_type(ether);
      }
      return ppp();
    case DLT_PPP_ETHER:
      return skip(6) && ppp();
    case DLT_PPP_PPPD:
      return skip(2) && ppp();
    case DLT_FRELAY:
      return frame_relay();
    case DLT_MPLS:
      return mpls();
    case DLT_NFLOG:
      return nflog();
    case DLT_PFLOG:
      return have(1) && skip((byte(0) + 3u) & ~3u) && raw();
    case DLT_IEEE802_11:
      return wlan(false);
    case DLT_IEEE802_11_RADIO:
      return radiotap();
    case DLT_PRISM_HEADER:
      return have(8) && be32(0) >> 16 == 0x8021 ? skip(be32(4)) && wlan(false)
                                                : skip(144) && wlan(false);
    case DLT_IEEE802_11_RADIO_AVS:
      return have(8) && skip(be32(4)) && wlan(false);
    case DLT_PPI: {
      if (!have(8)) return unread("cut before its IP header");
      const int inner = le16(4) | byte(6) << 16;
      return skip(le16(2)) && link(inner);
    }
    case DLT_NETANALYZER:
      return skip(4) && ethernet();
    case DLT_ERF:
      return erf();
    case DLT_PKTAP:
    case DLT_USER2: {  // Apple's; as USER2 in older files
      if (!have(12)) return unread("cut before its IP header");
      const int inner = le16(8) | byte(10) << 16;
      return skip(le16(0)) && link(inner);
    }
    default:
      return unread(fmt::format("link type {}", link_text(type)));
  }
}

bool Peeler::ethernet() {
  if (!have(mac_bytes + 2)) return unread("cut before its IP header");
  ethernet_at_ = at_;
  direct_ = true;
  // The same for both directions.
  uint64_t destination = 0, source = 0;
  for (size_t i = 0; i < 6; i++) {
    destination = destination << 8 | byte(i);
    source = source << 8 | byte(6 + i);
  }
  mix(std::min(destination, source));
  mix(std::max(destination, source));
  at_ += mac_bytes;
  uint16_t type = be16(0);
  while (is_tag(type) && have(6)) {
    mix(0x8100u << 16 | (be16(2) & 0xfff));
    at_ += 4;
    type = be16(0);
  }
  at_ += 2;
  if (type > 1500) return ether_type(type);
  direct_ = false;
  return llc();
}

bool Peeler::ether_type(uint16_t type) {
  switch (type) {
    case type_ipv4:
      return ipv4();
    case type_ipv6:
      return ipv6();
    case 0x8847:
    case 0x8848:
      return through("MPLS", 0, [this] { return mpls(); });
    case 0x8864:
      return through("PPPoE", 6, [this] { return ppp(); });
    case 0x88e7:  // I-TAG: 4 bytes, then the customer's Ethernet header
      return through("provider backbone bridges", 4, [this] { return ethernet(); });
    case 0x88e5:
      return unread("encrypted by MACsec");
    case 0x6558:
      return ethernet();
    case 0x880b:
      return ppp();
    default:
      return false;
  }
}

// IEEE 802.2, with RFC 1042's SNAP header or without.
bool Peeler::llc() {
  direct_ = false;
  if (!have(3)) return unread("cut before its IP header");
  if (byte(0) == 0x06 && byte(1) == 0x06) return skip(3) && ipv4();
  if (byte(0) != 0xaa || byte(1) != 0xaa || !have(8)) return false;
  const uint16_t type = be16(6);
  at_ += 8;
  return ether_type(type);
}

bool Peeler::ppp() {
  direct_ = false;
  if (have(2) && byte(0) == 0xff && byte(1) == 0x03) at_ += 2;
  if (!have(2)) return unread("cut before its IP header");
  const bool compressed = byte(0) & 1;
  const uint16_t protocol = compressed ? byte(0) : be16(0);
  at_ += compressed ? 1 : 2;
  switch (protocol) {
    case 0x0021:
      return ipv4();
    case 0x0057:
      return ipv6();
    case 0x0281:
      return through("MPLS", 0, [this] { return mpls(); });
    case 0x002d:
    case 0x002f:
      return unread("header-compressed PPP (Van Jacobson)");
    case 0x003d:
      return unread("multilink PPP");
    case 0x00fd:
      return unread("compressed or encrypted PPP");
    default:
      return false;
  }
}

bool Peeler::raw() {
  direct_ = false;
  if (!have(1)) return unread("cut before its IP header");
  return byte(0) >> 4 == 4 ? ipv4() : byte(0) >> 4 == 6 && ipv6();
}

bool Peeler::ipv4() {
  if (!have(20) || byte(0) >> 4 != 4) return !have(20) && unread("cut before its IP header");
  type_ = type_ipv4;
  const size_t header = (byte(0) & 15) * 4u;
  if (header < 20) return true;
  if ((be16(6) & 0x3fff) != 0) return fragment(byte(9));
  return inside_ip(byte(9), header);
}

bool Peeler::ipv6() {
  if (!have(40) || byte(0) >> 4 != 6) return !have(40) && unread("cut before its IP header");
  type_ = type_ipv6;
  size_t header = 40;
  uint8_t protocol = byte(6);
  while ((protocol == 0 || protocol == 43 || protocol == 60) && have(header + 8)) {
    protocol = byte(header);
    header += 8 + byte(header + 1) * 8u;
  }
  if (protocol == 44 && have(header + 8)) {
    // An atomic fragment (RFC 6946) is whole.
    if (be16(header + 2) & 0xfff9) return fragment(byte(header));
    return true;
  }
  return inside_ip(protocol, header);
}

// True with everything as it was if `protocol` is no tunnel, or one that cannot be read: then the
// outer packet is what there is.
bool Peeler::inside_ip(uint8_t protocol, size_t header) {
  if (protocol == 6) return true;
  const Peeler outer = *this;
  bool inner = false;
  if (protocol == 4) inner = through("IP in IP", header, [this] { return ipv4(); });
  if (protocol == 41) inner = through("IPv6 in IP", header, [this] { return ipv6(); });
  if (protocol == 137) inner = through("MPLS", header, [this] { return mpls(); });
  if (protocol == 47) inner = gre(header);
  if (protocol == 17) inner = udp(header);
  if (protocol == 50) unread("encrypted by IPsec (ESP)");
  if (!inner) {
    at_ = outer.at_;
    type_ = outer.type_;
    ethernet_at_ = outer.ethernet_at_;
    direct_ = outer.direct_;
    place_ = outer.place_;
  }
  return true;
}

bool Peeler::udp(size_t header) {
  if (!have(header + 8 + 8)) return false;
  const uint16_t source = be16(header), port = be16(header + 2);
  const size_t data = header + 8;
  const uint8_t first = byte(data);
  switch (port) {
    case 4789:
    case 8472:  // Linux's before it had a number
      if (!(first & 0x08)) return false;
      mix(be32(data + 4) >> 8);
      return through("VXLAN", data + 8, [this] { return ethernet(); });
    case 4790: {
      if (!(first & 0x04)) return false;
      const uint8_t next = byte(data + 3);
      mix(be32(data + 4) >> 8);
      return through("VXLAN-GPE", data + 8, [this, next] {
        return next == 1 ? ipv4() : next == 2 ? ipv6() : next == 3 && ethernet();
      });
    }
    case 6081: {
      if (first >> 6) return false;
      const uint16_t type = be16(data + 2);
      mix(be32(data + 4) >> 8);
      return through("GENEVE", data + 8 + (first & 0x3f) * 4u,
                     [this, type] { return ether_type(type); });
    }
    case 6635:
      return through("MPLS", data, [this] { return mpls(); });
    case 2152: {  // GTP-U, a G-PDU
      if (first >> 5 != 1 || !(first & 0x10) || byte(data + 1) != 255) return false;
      mix(be32(data + 4));
      size_t length = 8;
      if (first & 7) {
        length = 12;
        while (have(data + length + 4) && byte(data + length - 1)) {
          if (!byte(data + length)) return false;
          length += byte(data + length) * 4u;
        }
      }
      return through("GTP-U", data + length, [this] { return raw(); });
    }
    case 1701: {  // L2TP, data
      if ((first & 0x80) || (byte(data + 1) & 15) != 2) return false;
      size_t length = 6 + (first & 0x40 ? 2u : 0) + (first & 0x08 ? 4u : 0);
      if ((first & 0x02) && have(data + length + 2)) length += 2u + be16(data + length);
      return through("L2TP", data + length, [this] { return ppp(); });
    }
    default:
      if ((port == 3544 || source == 3544) && first >> 4 == 6)
        return through("Teredo", data, [this] { return ipv6(); });
      return false;
  }
}

bool Peeler::gre(size_t header) {
  if (!have(header + 4)) return false;
  const uint16_t flags = be16(header), type = be16(header + 2);
  if (flags & 0x4000) return unread("GRE with source routing");
  size_t length = 4 + (flags & 0x8000 ? 4u : 0);
  if (flags & 0x2000) {
    if (have(header + length + 4)) mix(be32(header + length));
    length += 4;
  }
  length += flags & 0x1000 ? 4u : 0;
  if ((flags & 7) == 1) length += flags & 0x0080 ? 4u : 0;  // PPTP's: an acknowledgement
  if ((flags & 7) > 1) return unread("GRE of an unknown version");
  if (type == 0x88be) {  // ERSPAN, type II if there is a sequence number
    return through("ERSPAN", header + length + (flags & 0x1000 ? 8 : 0),
                   [this] { return ethernet(); });
  }
  if (type == 0x22eb) {
    const size_t at = header + length;
    const bool more = have(at + 12) && (byte(at + 11) & 1);
    return through("ERSPAN", at + (more ? 20 : 12), [this] { return ethernet(); });
  }
  return through("GRE", header + length, [this, type] { return ether_type(type); });
}

bool Peeler::mpls() {
  direct_ = false;
  for (int labels = 0;; labels++) {
    if (!have(5)) return unread("cut before its IP header");
    if (labels == most_layers) return unread("nested too deep");
    const bool last = byte(2) & 1;
    mix(be32(0) >> 12);
    at_ += 4;
    if (last) break;
  }
  if (byte(0) >> 4 == 4) return ipv4();
  if (byte(0) >> 4 == 6) return ipv6();
  // A pseudowire's control word (RFC 4385), then Ethernet.
  return byte(0) >> 4 == 0 && skip(4) && ethernet();
}

bool Peeler::wlan(bool padded) {
  if (!have(24)) return false;
  const uint8_t kind = byte(0), flags = byte(1);
  if ((kind & 0x0f) != 0x08 || (kind & 0x40)) return false;  // no data frame, or without data
  size_t header = (flags & 3) == 3 ? 30 : 24;
  if (!have(header + 2)) return unread("cut before its IP header");
  if (flags & 0x40) return unread("encrypted 802.11 frame");
  if ((flags & 0x04) || (le16(22) & 15)) return unread("fragment of an 802.11 frame");
  if (kind & 0x80) {
    if (byte(header) & 0x80) return unread("aggregate of 802.11 frames (A-MSDU)");
    header += 2;
    if (flags & 0x80) header += 4;
  }
  if (padded) header = (header + 3) & ~size_t{3};
  return skip(header) && llc();
}

bool Peeler::radiotap() {
  if (!have(8)) return unread("cut before its IP header");
  const size_t length = le16(2);
  size_t field = 8;
  const uint32_t present = static_cast<uint32_t>(le16(6)) << 16 | le16(4);
  for (uint32_t more = present; more >> 31 && have(field + 4); field += 4) {
    more = static_cast<uint32_t>(le16(field + 2)) << 16 | le16(field);
  }
  if (present & 1) field = ((field + 7) & ~size_t{7}) + 8;  // TSFT
  const bool padded = (present & 2) && have(field + 1) && (byte(field) & 0x20);
  return skip(length) && wlan(padded);
}

// A header, then type-length-values in the byte order of the machine that wrote them.
bool Peeler::nflog() {
  at_ += 4;
  while (have(4)) {
    const bool little = le16(0) >= 4 && le16(2) < 256;
    const size_t length = little ? le16(0) : be16(0);
    const uint16_t type = (little ? le16(2) : be16(2)) & 0x7fff;
    if (length < 4) break;
    if (type == 9) return skip(4) && raw();  // the payload
    at_ += (length + 3) & ~size_t{3};
  }
  return unread("cut before its IP header");
}

bool Peeler::erf() {
  if (!have(16)) return unread("cut before its IP header");
  uint8_t type = byte(8);
  at_ += 16;
  for (bool more = type & 0x80; more && have(8); at_ += 8) more = byte(0) & 0x80;
  type &= 0x7f;
  if (type == 2 || type == 11 || type == 16 || type == 20) return skip(2) && ethernet();
  if (type == 1 && have(4)) {
    if (byte(0) == 0xff && byte(1) == 0x03) return ppp();
    const uint16_t ether = be16(2);
    return skip(4) && ether_type(ether);
  }
  if (type == 22 || type == 23) return raw();
  return unread(fmt::format("ERF record of type {}", type));
}

bool Peeler::token_ring() {
  if (!have(16)) return unread("cut before its IP header");
  const size_t route = byte(8) & 0x80 ? byte(14) & 0x1f : 0;
  return skip(14 + route) && llc();
}

bool Peeler::frame_relay() {
  direct_ = false;
  while (have(1) && !(byte(0) & 1)) at_++;  // the address ends with a set bit
  if (!skip(1) || !have(3)) return unread("cut before its IP header");
  if (byte(0) != 0x03) return ether_type(be16(0));  // Cisco's
  at_ += byte(1) == 0 ? 2 : 1;
  const uint8_t protocol = byte(0);
  at_++;
  if (protocol == 0xcc) return ipv4();
  if (protocol == 0x8e) return ipv6();
  if (protocol != 0x80 || !have(5)) return false;
  const uint16_t type = be16(3);
  return skip(5) && ether_type(type);
}

}  // namespace

bool can_read_link(int link) {
  return std::find(other_links.begin(), other_links.end(), link) != other_links.end() ||
         std::any_of(fixed_links.begin(), fixed_links.end(),
                     [link](const FixedLink& fixed) { return fixed.type == link; });
}

std::string link_text(int link) {
  const char* text = pcap_datalink_val_to_description(link);
  return text ? text : fmt::format("number {}", link);
}

void read_link(int link, uint32_t interface, std::span<const uint8_t> bytes, uint32_t wire,
               CapturedFrame& frame, Findings& findings) {
  Peeler peeler(bytes, findings);
  const bool found = peeler.link(link);
  frame.readable = found || link == DLT_EN10MB;
  frame.place = static_cast<uint32_t>((peeler.place() ^ interface) * 0x9e3779b97f4a7c15u >> 32);
  if (!found || (peeler.is_ethernet() && peeler.ethernet_at() == 0)) {
    if (link == DLT_EN10MB) {
      frame.bytes.assign(bytes.begin(), bytes.end());
      frame.wire = wire;
    } else {
      frame.bytes.assign(synthetic_macs.begin(), synthetic_macs.end());
      frame.wire = mac_bytes;
    }
    return;
  }
  if (peeler.is_ethernet()) {
    frame.bytes.assign(bytes.begin() + static_cast<long>(peeler.ethernet_at()), bytes.end());
    frame.wire = wire - static_cast<uint32_t>(peeler.ethernet_at());
    return;
  }
  const uint8_t* macs =
      peeler.has_macs() ? bytes.data() + peeler.ethernet_at() : synthetic_macs.data();
  frame.bytes.assign(macs, macs + mac_bytes);
  frame.bytes.push_back(static_cast<uint8_t>(peeler.type() >> 8));
  frame.bytes.push_back(static_cast<uint8_t>(peeler.type()));
  frame.bytes.insert(frame.bytes.end(), bytes.begin() + static_cast<long>(peeler.at()),
                     bytes.end());
  frame.wire = wire - static_cast<uint32_t>(peeler.at()) + mac_bytes + 2;
}

}  // namespace vsnoop::replay
