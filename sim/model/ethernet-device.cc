// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "ethernet-device.h"

#include "ns3/double.h"
#include "ns3/ethernet-header.h"
#include "ns3/log.h"
#include "ns3/node.h"
#include "ns3/pointer.h"
#include "ns3/simulator.h"
#include "ns3/trace-source-accessor.h"
#include "ns3/uinteger.h"

#include <algorithm>

namespace ns3
{

NS_LOG_COMPONENT_DEFINE("EthernetDevice");
NS_OBJECT_ENSURE_REGISTERED(EthernetDevice);
NS_OBJECT_ENSURE_REGISTERED(EthernetChannel);
NS_OBJECT_ENSURE_REGISTERED(LinkDevice);
NS_OBJECT_ENSURE_REGISTERED(EthernetBridge);

TypeId
EthernetDevice::GetTypeId()
{
    static TypeId tid =
        TypeId("ns3::EthernetDevice")
            .SetParent<NetDevice>()
            .SetGroupName("Vsnoop")
            .AddAttribute("Address",
                          "MAC address; a new one for each device unless it is set.",
                          Mac48AddressValue(Mac48Address("ff:ff:ff:ff:ff:ff")),
                          MakeMac48AddressAccessor(&EthernetDevice::m_address),
                          MakeMac48AddressChecker())
            .AddAttribute("Mtu",
                          "Most bytes after the Ethernet header.",
                          UintegerValue(1500),
                          MakeUintegerAccessor(&EthernetDevice::SetMtu, &EthernetDevice::GetMtu),
                          MakeUintegerChecker<uint16_t>(576))
            .AddTraceSource("Sniffer",
                            "Frames sent, and frames received for this node.",
                            MakeTraceSourceAccessor(&EthernetDevice::m_sniffer),
                            "ns3::Packet::TracedCallback")
            .AddTraceSource("PromiscSniffer",
                            "Frames sent and all frames received.",
                            MakeTraceSourceAccessor(&EthernetDevice::m_promiscSniffer),
                            "ns3::Packet::TracedCallback")
            .AddTraceSource("Drop",
                            "A frame was dropped here.",
                            MakeTraceSourceAccessor(&EthernetDevice::m_dropTrace),
                            "ns3::Packet::TracedCallback");
    return tid;
}

EthernetDevice::EthernetDevice() = default;
EthernetDevice::~EthernetDevice() = default;

void
EthernetDevice::DoDispose()
{
    m_node = nullptr;
    m_channel = nullptr;
    m_handler = nullptr;
    m_receive.Nullify();
    m_promiscReceive.Nullify();
    NetDevice::DoDispose();
}

void
EthernetDevice::SetFrameHandler(FrameHandler handler)
{
    m_handler = std::move(handler);
}

void
EthernetDevice::ReceiveFrame(Ptr<Packet> frame)
{
    m_promiscSniffer(frame);
    if (m_handler)
    {
        m_sniffer(frame);
        m_handler(frame);
        return;
    }
    if (Simulator::GetContext() != m_node->GetId())
    {
        // A processor that executes for several nodes. Node::ReceiveFromDevice wants its own
        // context.
        Simulator::ScheduleWithContext(m_node->GetId(),
                                       Time(0),
                                       &EthernetDevice::HandUp,
                                       Ptr<EthernetDevice>(this),
                                       frame);
        return;
    }
    HandUp(frame);
}

void
EthernetDevice::HandUp(Ptr<Packet> frame)
{
    EthernetHeader header(false);
    frame->PeekHeader(header);
    const Mac48Address to = header.GetDestination();
    PacketType type = PACKET_OTHERHOST;
    if (to.IsBroadcast())
    {
        type = PACKET_BROADCAST;
    }
    else if (to.IsGroup())
    {
        type = PACKET_MULTICAST;
    }
    else if (to == m_address)
    {
        type = PACKET_HOST;
    }
    if (type != PACKET_OTHERHOST)
    {
        m_sniffer(frame);
    }
    Ptr<Packet> packet = frame->Copy();
    packet->RemoveHeader(header);
    if (!m_promiscReceive.IsNull())
    {
        m_promiscReceive(this, packet, header.GetLengthType(), header.GetSource(), to, type);
    }
    if (type != PACKET_OTHERHOST)
    {
        m_receive(this, packet, header.GetLengthType(), header.GetSource());
    }
}

bool
EthernetDevice::Send(Ptr<Packet> packet, const Address& dest, uint16_t protocol)
{
    return SendFrom(packet, m_address, dest, protocol);
}

bool
EthernetDevice::SendFrom(Ptr<Packet> packet,
                         const Address& source,
                         const Address& dest,
                         uint16_t protocol)
{
    NS_ASSERT_MSG(packet->GetSize() <= m_mtu, "larger than the MTU");
    EthernetHeader header(false);
    header.SetSource(Mac48Address::ConvertFrom(source));
    header.SetDestination(Mac48Address::ConvertFrom(dest));
    header.SetLengthType(protocol);
    packet->AddHeader(header);
    return SendFrame(packet);
}

void
EthernetDevice::Sniff(Ptr<const Packet> frame)
{
    m_promiscSniffer(frame);
    m_sniffer(frame);
}

void
EthernetDevice::Drop(Ptr<const Packet> frame)
{
    m_dropTrace(frame);
}

Ptr<EthernetChannel>
EthernetDevice::Connect(Ptr<EthernetDevice> a, Ptr<EthernetDevice> b, Time delay)
{
    Ptr<EthernetChannel> channel = CreateObject<EthernetChannel>();
    channel->m_ends[0] = a;
    channel->m_ends[1] = b;
    channel->m_delay = delay;
    a->m_channel = channel;
    b->m_channel = channel;
    return channel;
}

void
EthernetDevice::SetIfIndex(const uint32_t index)
{
    m_ifIndex = index;
}

uint32_t
EthernetDevice::GetIfIndex() const
{
    return m_ifIndex;
}

Ptr<Channel>
EthernetDevice::GetChannel() const
{
    return m_channel;
}

Ptr<EthernetChannel>
EthernetDevice::GetEthernetChannel() const
{
    return m_channel;
}

void
EthernetDevice::SetAddress(Address address)
{
    m_address = Mac48Address::ConvertFrom(address);
}

Address
EthernetDevice::GetAddress() const
{
    return m_address;
}

bool
EthernetDevice::SetMtu(const uint16_t mtu)
{
    m_mtu = mtu;
    return true;
}

uint16_t
EthernetDevice::GetMtu() const
{
    return m_mtu;
}

bool
EthernetDevice::IsLinkUp() const
{
    return bool(m_channel);
}

void
EthernetDevice::AddLinkChangeCallback(Callback<void>)
{
}

bool
EthernetDevice::IsBroadcast() const
{
    return true;
}

Address
EthernetDevice::GetBroadcast() const
{
    return Mac48Address::GetBroadcast();
}

bool
EthernetDevice::IsMulticast() const
{
    return true;
}

Address
EthernetDevice::GetMulticast(Ipv4Address group) const
{
    return Mac48Address::GetMulticast(group);
}

Address
EthernetDevice::GetMulticast(Ipv6Address address) const
{
    return Mac48Address::GetMulticast(address);
}

bool
EthernetDevice::IsBridge() const
{
    return false;
}

bool
EthernetDevice::IsPointToPoint() const
{
    return false;
}

Ptr<Node>
EthernetDevice::GetNode() const
{
    return m_node;
}

void
EthernetDevice::SetNode(Ptr<Node> node)
{
    m_node = node;
    if (m_address.IsBroadcast())
    {
        m_address = Mac48Address::Allocate();
    }
}

bool
EthernetDevice::NeedsArp() const
{
    return true;
}

void
EthernetDevice::SetReceiveCallback(ReceiveCallback callback)
{
    m_receive = callback;
}

void
EthernetDevice::SetPromiscReceiveCallback(PromiscReceiveCallback callback)
{
    m_promiscReceive = callback;
}

bool
EthernetDevice::SupportsSendFrom() const
{
    return true;
}

// ---- the channel

TypeId
EthernetChannel::GetTypeId()
{
    static TypeId tid = TypeId("ns3::EthernetChannel").SetParent<Channel>().SetGroupName("Vsnoop");
    return tid;
}

std::size_t
EthernetChannel::GetNDevices() const
{
    return 2;
}

Ptr<NetDevice>
EthernetChannel::GetDevice(std::size_t i) const
{
    return m_ends[i];
}

Ptr<EthernetDevice>
EthernetChannel::GetOther(const EthernetDevice* device) const
{
    return m_ends[device == PeekPointer(m_ends[0]) ? 1 : 0];
}

Time
EthernetChannel::GetDelay() const
{
    return m_delay;
}

// ---- the link

namespace
{

constexpr uint32_t WIRE_OVERHEAD = 24; // preamble 8, frame check sequence 4, gap 12
constexpr uint32_t WIRE_MINIMUM = 84;

} // namespace

TypeId
LinkDevice::GetTypeId()
{
    static TypeId tid =
        TypeId("ns3::LinkDevice")
            .SetParent<EthernetDevice>()
            .SetGroupName("Vsnoop")
            .AddConstructor<LinkDevice>()
            .AddAttribute("DataRate",
                          "Bits per second on the wire.",
                          DataRateValue(DataRate("1Gbps")),
                          MakeDataRateAccessor(&LinkDevice::m_rate),
                          MakeDataRateChecker())
            .AddAttribute("QueueBytes",
                          "Bytes that may wait for the wire; what comes on top is dropped.",
                          UintegerValue(16 << 20),
                          MakeUintegerAccessor(&LinkDevice::m_queueBytes),
                          MakeUintegerChecker<uint32_t>())
            .AddAttribute("ReceiveErrorModel",
                          "Decides which arriving frames are lost.",
                          PointerValue(),
                          MakePointerAccessor(&LinkDevice::m_errorModel),
                          MakePointerChecker<ErrorModel>())
            .AddAttribute("ReorderProbability",
                          "Part of the frames sent that arrive late.",
                          DoubleValue(0),
                          MakeDoubleAccessor(&LinkDevice::m_reorder),
                          MakeDoubleChecker<double>(0, 1))
            .AddAttribute("ReorderDelay",
                          "How late.",
                          TimeValue(MicroSeconds(50)),
                          MakeTimeAccessor(&LinkDevice::m_reorderDelay),
                          MakeTimeChecker(Time(0)));
    return tid;
}

LinkDevice::LinkDevice()
    : m_random(CreateObject<UniformRandomVariable>())
{
}

LinkDevice::~LinkDevice() = default;

int64_t
LinkDevice::AssignStreams(int64_t stream)
{
    m_random->SetStream(stream);
    return 1;
}

bool
LinkDevice::SendFrame(Ptr<Packet> frame)
{
    const Time now = Simulator::Now();
    const Time start = std::max(now, m_free);
    const uint32_t bytes = std::max(frame->GetSize() + WIRE_OVERHEAD, WIRE_MINIMUM);
    if (m_rate.CalculateBytesTxTime(m_queueBytes) < start - now)
    {
        ++m_queueDrops;
        Drop(frame);
        return false;
    }
    Sniff(frame);
    m_sentBytes += frame->GetSize();
    m_free = start + m_rate.CalculateBytesTxTime(bytes);
    const Ptr<EthernetChannel> channel = GetEthernetChannel();
    Time arrival = m_free + channel->GetDelay() - now;
    if (m_reorder > 0 && m_random->GetValue() < m_reorder)
    {
        arrival += m_reorderDelay;
    }
    const Ptr<LinkDevice> other = DynamicCast<LinkDevice>(channel->GetOther(this));
    Simulator::ScheduleWithContext(other->GetNode()->GetId(),
                                   arrival,
                                   &LinkDevice::Arrive,
                                   other,
                                   frame);
    return true;
}

void
LinkDevice::Arrive(Ptr<Packet> frame)
{
    if (m_errorModel && m_errorModel->IsCorrupt(frame))
    {
        Drop(frame);
        return;
    }
    ReceiveFrame(frame);
}

uint64_t
LinkDevice::GetQueueDrops() const
{
    return m_queueDrops;
}

uint64_t
LinkDevice::GetSentBytes() const
{
    return m_sentBytes;
}

// ---- the bridge

TypeId
EthernetBridge::GetTypeId()
{
    static TypeId tid = TypeId("ns3::EthernetBridge")
                            .SetParent<Object>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<EthernetBridge>();
    return tid;
}

void
EthernetBridge::DoDispose()
{
    m_ports.clear();
    m_table.clear();
    Object::DoDispose();
}

uint32_t
EthernetBridge::AddPort(EthernetDevice::FrameHandler output)
{
    m_ports.push_back(std::move(output));
    return m_ports.size() - 1;
}

void
EthernetBridge::AddDevice(Ptr<EthernetDevice> device)
{
    EthernetDevice* out = PeekPointer(device);
    const uint32_t port = AddPort([out](Ptr<Packet> frame) { out->SendFrame(frame); });
    device->SetFrameHandler([this, port](Ptr<Packet> frame) { Forward(port, frame); });
}

void
EthernetBridge::Forward(uint32_t port, Ptr<Packet> frame)
{
    // Read as bytes: a header object for every hop of every frame would take longer than all else.
    uint8_t addresses[12];
    frame->CopyData(addresses, sizeof addresses);
    Mac48Address destination;
    Mac48Address source;
    destination.CopyFrom(addresses);
    source.CopyFrom(addresses + 6);
    m_table[source] = port;
    const auto known = m_table.find(destination);
    if (known != m_table.end())
    {
        if (known->second != port)
        {
            m_ports[known->second](frame);
        }
        return;
    }
    for (uint32_t i = 0; i < m_ports.size(); ++i)
    {
        if (i != port)
        {
            m_ports[i](frame->Copy());
        }
    }
}

} // namespace ns3
