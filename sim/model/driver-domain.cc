// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "driver-domain.h"

#include "ns3/log.h"
#include "ns3/simulator.h"
#include "ns3/uinteger.h"

namespace ns3
{

NS_LOG_COMPONENT_DEFINE("DriverDomain");
NS_OBJECT_ENSURE_REGISTERED(DriverDomain);

TypeId
DriverDomain::GetTypeId()
{
    static TypeId tid =
        TypeId("ns3::DriverDomain")
            .SetParent<Object>()
            .SetGroupName("Vsnoop")
            .AddConstructor<DriverDomain>()
            .AddAttribute("NicRxCost",
                          "Time to receive a frame from the NIC.",
                          TimeValue(NanoSeconds(800)),
                          MakeTimeAccessor(&DriverDomain::m_nicRxCost),
                          MakeTimeChecker(Time(0)))
            .AddAttribute("NicTxCost",
                          "Time to send a frame to the NIC.",
                          TimeValue(NanoSeconds(300)),
                          MakeTimeAccessor(&DriverDomain::m_nicTxCost),
                          MakeTimeChecker(Time(0)))
            .AddAttribute("BridgeCost",
                          "Time to bridge a frame.",
                          TimeValue(NanoSeconds(200)),
                          MakeTimeAccessor(&DriverDomain::m_bridgeCost),
                          MakeTimeChecker(Time(0)))
            .AddAttribute("SnoopCost",
                          "Time of snoop-core for a frame it decides on.",
                          TimeValue(NanoSeconds(150)),
                          MakeTimeAccessor(&DriverDomain::m_snoopCost),
                          MakeTimeChecker(Time(0)))
            .AddAttribute("EmitCost",
                          "Time to make a frame of vsnoop's own, before it is sent.",
                          TimeValue(NanoSeconds(400)),
                          MakeTimeAccessor(&DriverDomain::m_emitCost),
                          MakeTimeChecker(Time(0)))
            .AddAttribute("Moderation",
                          "Time from a frame's arrival to the NIC's interrupt; others join it.",
                          TimeValue(MicroSeconds(20)),
                          MakeTimeAccessor(&DriverDomain::m_moderation),
                          MakeTimeChecker(Time(0)))
            .AddAttribute("InterruptCost",
                          "Time to take an interrupt of the NIC.",
                          TimeValue(NanoSeconds(500)),
                          MakeTimeAccessor(&DriverDomain::m_interruptCost),
                          MakeTimeChecker(Time(0)))
            .AddAttribute("NicSlots",
                          "Frames that wait in the NIC's ring before others are dropped.",
                          UintegerValue(1024),
                          MakeUintegerAccessor(&DriverDomain::m_nicSlots),
                          MakeUintegerChecker<uint32_t>(1));
    return tid;
}

DriverDomain::DriverDomain()
    : m_bridge(CreateObject<EthernetBridge>())
{
}

DriverDomain::~DriverDomain() = default;

void
DriverDomain::DoDispose()
{
    m_interrupt.Cancel();
    m_nicRing.clear();
    m_bridge->Dispose(); // what the engine still says goes nowhere
    for (const auto& vif : m_vifs)
    {
        vif->Detach(false);
    }
    if (m_engine)
    {
        m_engine->Dispose();
    }
    for (const auto& vif : m_vifs)
    {
        vif->Dispose();
    }
    m_vifs.clear();
    m_bridge = nullptr;
    m_engine = nullptr;
    m_nic = nullptr;
    m_vcpu = nullptr;
    Object::DoDispose();
}

void
DriverDomain::Setup(Ptr<Vcpu> vcpu, Ptr<EthernetDevice> nic)
{
    m_vcpu = vcpu;
    m_nic = nic;
    m_nicPort = m_bridge->AddPort([this](Ptr<Packet> frame) {
        m_vcpu->Charge(m_nicTxCost);
        m_nic->SendFrame(frame);
    });
    nic->SetFrameHandler([this](Ptr<Packet> frame) { FromNic(frame); });
}

void
DriverDomain::SetEngine(Ptr<SnoopEngine> engine)
{
    m_engine = engine;
}

void
DriverDomain::AddVif(Ptr<Vif> vif, Ptr<VifDevice> device, Ptr<Vcpu> vcpu)
{
    Vif* raw = PeekPointer(vif);
    const uint32_t port = m_bridge->AddPort([raw](Ptr<Packet> frame) { raw->ToGuest(frame); });
    vif->Attach(this, device, port);
    device->Attach(vif, vcpu);
    EthernetDevice::Connect(device, device);
    if (m_engine)
    {
        vif->SetEngine(m_engine, m_engine->AddGuest(raw));
    }
    m_vifs.push_back(vif);
}

void
DriverDomain::FromNic(Ptr<Packet> frame)
{
    if (m_nicRing.size() >= m_nicSlots)
    {
        ++m_nicDrops;
        return;
    }
    m_nicRing.push_back(frame);
    if (!m_polling)
    {
        m_polling = true;
        m_interrupt = Simulator::Schedule(m_moderation, [this] {
            m_vcpu->Submit(m_interruptCost, [this] { Poll(); });
        });
    }
}

void
DriverDomain::Poll()
{
    for (int i = 0; i < BATCH && !m_nicRing.empty(); ++i)
    {
        m_vcpu->Charge(m_nicRxCost);
        Ptr<Packet> frame = m_nicRing.front();
        m_nicRing.pop_front();
        Forward(m_nicPort, frame);
    }
    if (m_engine)
    {
        m_engine->Settle();
    }
    m_polling = !m_nicRing.empty();
    if (m_polling)
    {
        m_vcpu->Submit(Time(0), [this] { Poll(); });
    }
}

void
DriverDomain::Forward(uint32_t port, Ptr<Packet> frame)
{
    m_vcpu->Charge(m_bridgeCost);
    m_bridge->Forward(port, frame);
}

Ptr<Vcpu>
DriverDomain::GetVcpu() const
{
    return m_vcpu;
}

const std::vector<Ptr<Vif>>&
DriverDomain::GetVifs() const
{
    return m_vifs;
}

Ptr<SnoopEngine>
DriverDomain::GetEngine() const
{
    return m_engine;
}

uint64_t
DriverDomain::GetNicDrops() const
{
    return m_nicDrops;
}

} // namespace ns3
