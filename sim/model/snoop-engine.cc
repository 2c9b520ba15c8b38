// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "snoop-engine.h"

#include "snoop-core/vsnoop.h"
#include "vif.h"

#include "ns3/boolean.h"
#include "ns3/enum.h"
#include "ns3/log.h"
#include "ns3/node.h"
#include "ns3/simulator.h"
#include "ns3/string.h"
#include "ns3/trace-source-accessor.h"
#include "ns3/uinteger.h"

#include <algorithm>

namespace ns3
{

NS_LOG_COMPONENT_DEFINE("SnoopEngine");
NS_OBJECT_ENSURE_REGISTERED(SnoopEngine);

namespace
{

// Ethernet, IPv4 and TCP with all the options they can have.
constexpr uint32_t ETHERNET = 14;
constexpr uint32_t HEADERS = ETHERNET + 60 + 60;
constexpr uint32_t SLOT = 4096;

/// ns-3 from 3.42 on wants to be told the type of an enumeration; before, it must not be.
template <typename E, typename Member>
auto
EnumAccessor(Member member, int) -> decltype(MakeEnumAccessor<E>(member))
{
    return MakeEnumAccessor<E>(member);
}

template <typename E, typename Member>
auto
EnumAccessor(Member member, long) -> decltype(MakeEnumAccessor(member))
{
    return MakeEnumAccessor(member);
}

constexpr uint8_t TCP = 6;
constexpr uint8_t SYN = 2;
// ns-3's SYNs announce no MSS, which means 536 bytes (RFC 9293 3.7.1); segments of SegmentSize come
// all the same. The engine is shown what a device with an MTU of 1500 announces: 1460.
constexpr uint8_t MSS_OPTION[] = {2, 4, 1460 >> 8, 1460 & 0xff};
// What Linux charges a frame of a socket buffer beyond its bytes (sk_buff and shared info).
constexpr uint32_t FRAME_OVERHEAD = 640;

/// The first bytes of a packet, where the engine can read and change them.
struct Headers
{
    explicit Headers(Ptr<const Packet> packet)
        : length(packet->CopyData(bytes, std::min(HEADERS, packet->GetSize())))
    {
        // ns-3 leaves checksums empty unless it is told otherwise. As a NIC with checksum offload
        // vouches for TCP's; the IP header's, which snoop-core always looks at, is put in here.
        const uint32_t header = 4 * (bytes[ETHERNET] & 15);
        if (!Node::ChecksumEnabled() && bytes[12] == 8 && bytes[13] == 0 && header >= 20 &&
            length >= ETHERNET + header)
        {
            uint8_t* ip = bytes + ETHERNET;
            AddMss(ip, ip + header);
            ip[10] = ip[11] = 0;
            uint32_t sum = 0;
            for (uint32_t i = 0; i < header; i += 2)
            {
                sum += ip[i] << 8 | ip[i + 1];
            }
            sum = (sum & 0xffff) + (sum >> 16);
            sum = ~((sum & 0xffff) + (sum >> 16));
            ip[10] = sum >> 8 & 0xff;
            ip[11] = sum & 0xff;
        }
    }

    void AddMss(uint8_t* ip, uint8_t* tcp)
    {
        const uint32_t options = 4 * (tcp[12] >> 4);
        if (ip[9] != TCP || !(tcp[13] & SYN) || tcp + options != bytes + length ||
            options + sizeof(MSS_OPTION) > 60)
        {
            return;
        }
        // Before the others: what ns-3 pads them with ends the list.
        std::copy_backward(tcp + 20, tcp + options, tcp + options + sizeof(MSS_OPTION));
        std::copy(std::begin(MSS_OPTION), std::end(MSS_OPTION), tcp + 20);
        added = sizeof(MSS_OPTION);
        length += added;
        tcp[12] += 16; // one more word of header
        ip[3] += added;
    }

    /// The packet with these bytes in place of its own.
    Ptr<Packet> PutBack(Ptr<const Packet> packet) const
    {
        Ptr<Packet> changed = Create<Packet>(bytes, length);
        changed->AddAtEnd(packet->CreateFragment(length, packet->GetSize() - length));
        return changed;
    }

    uint8_t bytes[HEADERS];
    uint32_t length;
    uint32_t added{0}; //!< to the packet's own
};

/// a is later than b, in sequence numbers
bool
After(uint32_t a, uint32_t b)
{
    return static_cast<int32_t>(a - b) > 0;
}

} // namespace

/// A frame in custody.
struct SnoopEngine::Held
{
    vsnoop_held held{};
    Ptr<Packet> frame;

    static Held* Of(vsnoop_held* held)
    {
        return reinterpret_cast<Held*>(held);
    }
};

TypeId
SnoopEngine::GetTypeId()
{
    static TypeId tid =
        TypeId("ns3::SnoopEngine")
            .SetParent<Object>()
            .SetGroupName("Vsnoop")
            .AddConstructor<SnoopEngine>()
            .AddAttribute("Policy",
                          "On what ground data is acknowledged.",
                          EnumValue(HOLD),
                          EnumAccessor<Policy>(&SnoopEngine::m_policy, 0),
                          MakeEnumChecker(OFF, "off", RING, "ring", HOLD, "hold"))
            .AddAttribute("Engage",
                          "For which connections.",
                          EnumValue(ALWAYS),
                          EnumAccessor<Engage>(&SnoopEngine::m_engage, 0),
                          MakeEnumChecker(ALWAYS, "always", AUTO, "auto"))
            .AddAttribute("EarlySack",
                          "Policy hold: report out-of-order data on the guest's behalf, too.",
                          BooleanValue(true),
                          MakeBooleanAccessor(&SnoopEngine::m_earlySack),
                          MakeBooleanChecker())
            .AddAttribute("Budget",
                          "Bytes of memory for frames in custody and windows shown, each guest.",
                          UintegerValue(8 << 20),
                          MakeUintegerAccessor(&SnoopEngine::m_budget),
                          MakeUintegerChecker<uint64_t>(4096, 0xffffffff))
            .AddAttribute("FlowBudget",
                          "Bytes of memory that one connection may take of it; 0: no limit.",
                          UintegerValue(0),
                          MakeUintegerAccessor(&SnoopEngine::m_flowBudget),
                          MakeUintegerChecker<uint64_t>(0, 0xffffffff))
            .AddAttribute("TotalBudget",
                          "Bytes of memory over all guests; 0: each guest's own budget only.",
                          UintegerValue(0),
                          MakeUintegerAccessor(&SnoopEngine::m_totalBudget),
                          MakeUintegerChecker<uint64_t>())
            .AddAttribute("Flows",
                          "Connections tracked at the most.",
                          UintegerValue(4096),
                          MakeUintegerAccessor(&SnoopEngine::m_flows),
                          MakeUintegerChecker<uint32_t>(1, 1 << 22))
            .AddAttribute("LogFile",
                          "Decision log for `vsnoop replay --log`; empty: none.",
                          StringValue(""),
                          MakeStringAccessor(&SnoopEngine::m_logFile),
                          MakeStringChecker())
            .AddAttribute("CheckInvariants",
                          "End the simulation when I1, I2, I4 or I7 does not hold.",
                          BooleanValue(true),
                          MakeBooleanAccessor(&SnoopEngine::m_check),
                          MakeBooleanChecker())
            .AddTraceSource("EarlyAck",
                            "An ACK was sent on a guest's behalf.",
                            MakeTraceSourceAccessor(&SnoopEngine::m_earlyAck),
                            "ns3::SnoopEngine::EarlyAckTracedCallback");
    return tid;
}

SnoopEngine::SnoopEngine() = default;
SnoopEngine::~SnoopEngine() = default;

void
SnoopEngine::DoDispose()
{
    m_tick.Cancel();
    // Frames in custody are linked in the engine's lists only; it names them when it stops.
    for (uint16_t id = 0; m_engine && id < m_vifs.size(); ++id)
    {
        FreeList(vsnoop_guest_stop(m_engine, id, Now()));
    }
    m_engine = nullptr;
    m_memory.reset();
    m_vifs.clear();
    if (m_log && std::fclose(m_log) != 0)
    {
        NS_FATAL_ERROR("the decision log " << m_logFile << " could not be written");
    }
    m_log = nullptr;
    Object::DoDispose();
}

uint16_t
SnoopEngine::AddGuest(Vif* vif)
{
    NS_ABORT_MSG_IF(m_engine, "add all guests before the first frame");
    m_vifs.push_back(vif);
    return m_vifs.size() - 1;
}

void
SnoopEngine::MakeEngine()
{
    vsnoop_config config;
    vsnoop_defaults(&config);
    config.flows = m_flows;
    config.custodies = m_flows;
    config.guests = m_vifs.size();
    config.budget = m_totalBudget;
    config.seed[0] = 1; // the same in each run
    config.seed[1] = 2;
    if (!m_logFile.empty())
    {
        m_log = std::fopen(m_logFile.c_str(), "wb");
        NS_ABORT_MSG_UNLESS(m_log, "cannot write the decision log " << m_logFile);
        config.log = &SnoopEngine::Log;
        config.log_context = this;
    }
    const std::size_t bytes = vsnoop_memory_needed(&config);
    m_memory = std::make_unique<uint8_t[]>(bytes + 64);
    const auto address = reinterpret_cast<uintptr_t>(m_memory.get());
    m_pushed.resize(m_vifs.size());
    m_engine = vsnoop_create(m_memory.get() + (-address & 63), bytes, &config);
    NS_ABORT_MSG_UNLESS(m_engine, "snoop-core does not take this configuration");
    for (uint16_t id = 0; id < m_vifs.size(); ++id)
    {
        vsnoop_guest_config guest;
        vsnoop_guest_defaults(&guest);
        guest.policy = m_policy;
        guest.engage = m_engage;
        guest.early_sack = m_earlySack && m_policy == HOLD;
        guest.budget = m_policy == RING ? m_vifs[id]->GetRoom() * SLOT : m_budget;
        guest.flow_budget = m_flowBudget;
        vsnoop_guest_open(m_engine, id, &guest, Now());
    }
}

void
SnoopEngine::Log(void* context, const uint8_t* bytes, uint32_t length)
{
    std::fwrite(bytes, 1, length, static_cast<SnoopEngine*>(context)->m_log);
}

uint64_t
SnoopEngine::Now() const
{
    return Simulator::Now().GetMicroSeconds();
}

void
SnoopEngine::Free(vsnoop_held* held)
{
    delete Held::Of(held);
    --m_heldFrames;
}

void
SnoopEngine::FreeList(vsnoop_held* list)
{
    while (list)
    {
        vsnoop_held* next = list->next;
        Free(list);
        list = next;
    }
}

void
SnoopEngine::FromPeer(uint16_t id, Ptr<Packet> packet)
{
    if (!m_engine)
    {
        MakeEngine();
    }
    Vif* vif = m_vifs[id];
    const uint32_t memory = m_policy == RING ? SLOT : packet->GetSize() + FRAME_OVERHEAD;
    const bool checksums = Node::ChecksumEnabled();
    Headers headers(packet);
    std::vector<uint8_t> whole;
    vsnoop_frame frame{headers.bytes,
                       headers.length,
                       packet->GetSize() + headers.added,
                       memory,
                       VSNOOP_CHECKSUM_VERIFIED};
    if (checksums)
    {
        whole.resize(packet->GetSize());
        packet->CopyData(whole.data(), whole.size());
        frame.data = whole.data();
        frame.captured = whole.size();
        frame.checksum = VSNOOP_CHECKSUM_UNKNOWN;
    }
    const vsnoop_verdict verdict = vsnoop_from_peer(m_engine, id, &frame, Now());
    FreeList(verdict.released);
    switch (verdict.action)
    {
    case VSNOOP_PUSH:
        m_pushed[id].push_back(verdict);
        if (!vif->Queue(packet, memory))
        {
            m_pushed[id].pop_back();
            vsnoop_declined(m_engine, &verdict, Now());
        }
        break;
    case VSNOOP_KEEP: {
        auto held = new Held;
        held->frame = packet;
        ++m_heldFrames;
        if (!vsnoop_taken(m_engine, &verdict, &held->held, Now()))
        {
            Free(&held->held);
            if (vsnoop_declined(m_engine, &verdict, Now()) == VSNOOP_PASS)
            {
                vif->Queue(packet, 0);
            }
        }
        break;
    }
    case VSNOOP_DROP:
        break;
    default:
        vif->Queue(packet, 0);
    }
    Check(verdict.flow, id);
}

Ptr<Packet>
SnoopEngine::FromGuest(uint16_t id, Ptr<Packet> packet)
{
    if (!m_engine)
    {
        MakeEngine();
    }
    Headers headers(packet);
    const vsnoop_frame frame{headers.bytes,
                             headers.length,
                             packet->GetSize() + headers.added,
                             packet->GetSize() + FRAME_OVERHEAD,
                             VSNOOP_CHECKSUM_VERIFIED};
    const vsnoop_verdict verdict = vsnoop_from_guest(m_engine, id, &frame, Now());
    FreeList(verdict.released);
    if (verdict.action == VSNOOP_DROP)
    {
        packet = nullptr;
    }
    else if (verdict.action == VSNOOP_EDIT)
    {
        vsnoop_apply_edit(headers.bytes, headers.length, &verdict.edit, 0);
        packet = headers.PutBack(packet);
    }
    Check(verdict.flow, id);
    return packet;
}

bool
SnoopEngine::Entered(uint16_t id)
{
    const vsnoop_verdict verdict = m_pushed[id].front();
    m_pushed[id].pop_front();
    return vsnoop_taken(m_engine, &verdict, nullptr, Now());
}

void
SnoopEngine::Unsent(uint16_t id)
{
    vsnoop_declined(m_engine, &m_pushed[id].front(), Now());
    m_pushed[id].pop_front();
}

bool
SnoopEngine::HasNext(uint16_t id)
{
    vsnoop_feed feed;
    return m_engine && m_policy == HOLD && vsnoop_next(m_engine, id, &feed, Now());
}

Ptr<Packet>
SnoopEngine::Next(uint16_t id, vsnoop_held*& held)
{
    held = nullptr;
    if (!m_engine || m_policy != HOLD)
    {
        return nullptr;
    }
    vsnoop_feed feed;
    while (vsnoop_next(m_engine, id, &feed, Now()))
    {
        if (feed.discard)
        {
            vsnoop_fed(m_engine, id, &feed, Now());
            Free(feed.held);
            continue;
        }
        Ptr<Packet> packet = Held::Of(feed.held)->frame;
        if (feed.skip != 0 || feed.keep != feed.held->length)
        {
            std::vector<uint8_t> bytes(packet->GetSize());
            packet->CopyData(bytes.data(), bytes.size());
            const uint32_t length =
                vsnoop_trim(bytes.data(), bytes.size(), feed.skip, feed.keep, 0);
            packet = Create<Packet>(bytes.data(), length);
        }
        if (feed.edit.what)
        {
            Headers headers(packet);
            vsnoop_apply_edit(headers.bytes, headers.length, &feed.edit, 0);
            packet = headers.PutBack(packet);
        }
        const bool retain = feed.retain, more = feed.more;
        vsnoop_fed(m_engine, id, &feed, Now());
        if (retain && !more)
        {
            held = feed.held;
        }
        else if (!retain)
        {
            Free(feed.held);
        }
        // The guest's stack may take the packet apart; the one in custody stays as it is.
        return packet->Copy();
    }
    return nullptr;
}

void
SnoopEngine::Consumed(uint16_t id, vsnoop_held* held, uint32_t memory)
{
    if (!m_engine)
    {
        return;
    }
    if (held && vsnoop_consumed(m_engine, held, Now()))
    {
        Free(held);
    }
    vsnoop_progress(m_engine, id, memory, Now());
    Settle();
}

void
SnoopEngine::Returned(vsnoop_held* held)
{
    vsnoop_returned(m_engine, held, Now());
}

void
SnoopEngine::Quiesce(uint16_t id, bool on)
{
    if (!m_engine)
    {
        MakeEngine();
    }
    vsnoop_guest_quiesce(m_engine, id, on, Now());
}

void
SnoopEngine::Stop(uint16_t id)
{
    if (m_engine)
    {
        FreeList(vsnoop_guest_stop(m_engine, id, Now()));
        Settle();
    }
}

void
SnoopEngine::Settle()
{
    if (m_settling || m_polls > 0 || !m_engine)
    {
        return; // a frame for another guest of this host came back here; or there was none yet
    }
    m_settling = true;
    uint8_t bytes[VSNOOP_EMIT_MAX];
    vsnoop_emission emission;
    while (vsnoop_emit(m_engine, &emission, bytes, Now()))
    {
        Vif* vif = m_vifs[emission.guest];
        Ptr<Packet> packet = Create<Packet>(bytes, emission.length);
        Check(emission.flow, emission.guest);
        if (emission.to_guest)
        {
            vif->Queue(packet, 0);
        }
        else
        {
            m_earlyAck(vif, emission.ack, emission.edge);
            vif->Emit(packet);
        }
    }
    m_settling = false;

    const uint64_t deadline = vsnoop_deadline(m_engine);
    if (deadline == UINT64_MAX || (!m_tick.IsExpired() && m_tickAt <= deadline))
    {
        return; // a tick that comes early asks again
    }
    m_tick.Cancel();
    m_tickAt = std::max(deadline, Now());
    m_tick = Simulator::Schedule(MicroSeconds(m_tickAt) - Simulator::Now() > Time(0)
                                     ? MicroSeconds(m_tickAt) - Simulator::Now()
                                     : Time(0),
                                 &SnoopEngine::Tick,
                                 this);
}

void
SnoopEngine::BeginPoll()
{
    ++m_polls;
}

void
SnoopEngine::EndPoll()
{
    --m_polls;
    Settle();
}

void
SnoopEngine::Tick()
{
    if (vsnoop_deadline(m_engine) <= Now())
    {
        FreeList(vsnoop_tick(m_engine, Now()));
        for (Vif* vif : m_vifs)
        {
            vif->Kick();
        }
    }
    Settle();
}

void
SnoopEngine::Check(const vsnoop_ref& flow, uint16_t id)
{
    vsnoop_flow_info info;
    if (!m_check || flow.slot == 0xffffffff || !vsnoop_flow(m_engine, flow, &info) ||
        info.state == VSNOOP_FLOW_STOPPED)
    {
        return;
    }
    const vsnoop_guest_stats* stats = vsnoop_stats(m_engine, id);
    const char* broken = nullptr;
    if (After(info.early_ack, info.rcv_nxt))
    {
        broken = "I1: more acknowledged than taken";
    }
    else if (After(info.early_ack, info.right_edge))
    {
        broken = "I2: more acknowledged than the guest has a window for";
    }
    else if (m_policy == HOLD && stats->held > m_budget)
    {
        broken = "I7: more in custody than the budget";
    }
    const uint64_t key = uint64_t{flow.slot} << 16 | flow.generation;
    const auto [shown, fresh] = m_shown.try_emplace(key, Shown{info.early_ack, info.shown_edge});
    if (!fresh)
    {
        if (After(shown->second.ack, info.early_ack) || After(shown->second.edge, info.shown_edge))
        {
            broken = "I4: what the peer was shown moved left";
        }
        shown->second = {info.early_ack, info.shown_edge};
    }
    NS_ABORT_MSG_IF(broken,
                    "invariant " << broken << "; guest " << id << ", flow " << flow.slot
                                 << ", rcv_nxt " << info.rcv_nxt << ", early_ack " << info.early_ack
                                 << ", right_edge " << info.right_edge << ", shown_edge "
                                 << info.shown_edge << ", held " << stats->held);
}

const vsnoop_guest_stats&
SnoopEngine::GetStats(uint16_t id) const
{
    static const vsnoop_guest_stats none{};
    return m_engine ? *vsnoop_stats(m_engine, id) : none;
}

uint64_t
SnoopEngine::GetOutstanding(uint16_t id) const
{
    return GetStats(id).outstanding;
}

uint64_t
SnoopEngine::GetPeakHeld(uint16_t id) const
{
    return GetStats(id).peak_held;
}

uint64_t
SnoopEngine::GetEarlyAcks(uint16_t id) const
{
    return GetStats(id).early_acks;
}

uint64_t
SnoopEngine::GetHeldFrames() const
{
    return m_heldFrames;
}

SnoopEngine::Policy
SnoopEngine::GetPolicy() const
{
    return m_policy;
}

} // namespace ns3
