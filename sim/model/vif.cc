// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "vif.h"

#include "driver-domain.h"
#include "snoop-engine.h"

#include "ns3/double.h"
#include "ns3/log.h"
#include "ns3/simulator.h"
#include "ns3/trace-source-accessor.h"
#include "ns3/uinteger.h"

#include <algorithm>

namespace ns3
{

NS_LOG_COMPONENT_DEFINE("Vif");
NS_OBJECT_ENSURE_REGISTERED(Vif);
NS_OBJECT_ENSURE_REGISTERED(VifDevice);

namespace
{

constexpr uint32_t FULL_FRAME = 1514; // bytes
// Frames that netback takes from a guest before it looks after anything else (NAPI_POLL_WEIGHT).
constexpr int POLL_WEIGHT = 64;

/// Cost of a frame: a part for each, a part for its bytes.
Time
CostOf(Time each, double nsPerByte, uint32_t bytes)
{
    return each + NanoSeconds(static_cast<int64_t>(nsPerByte * bytes));
}

} // namespace

TypeId
Vif::GetTypeId()
{
    static TypeId tid =
        TypeId("ns3::Vif")
            .SetParent<Object>()
            .SetGroupName("Vsnoop")
            .AddConstructor<Vif>()
            .AddAttribute("RingSlots",
                          "Frames that fit into the guest's receive ring.",
                          UintegerValue(256),
                          MakeUintegerAccessor(&Vif::m_ringSlots),
                          MakeUintegerChecker<uint32_t>(1))
            .AddAttribute("QueueBytes",
                          "Bytes of frames that may wait in front of a full ring "
                          "(XENVIF_RX_QUEUE_BYTES: 524288; netback of 2010: 0).",
                          UintegerValue(524288),
                          MakeUintegerAccessor(&Vif::m_queueBytes),
                          MakeUintegerChecker<uint32_t>())
            .AddAttribute(
                "RxCost",
                "Driver domain's time for a frame to the guest, grant operations included.",
                TimeValue(NanoSeconds(1250)),
                MakeTimeAccessor(&Vif::m_rxCost),
                MakeTimeChecker(Time(0)))
            .AddAttribute("RxNsPerByte",
                          "Driver domain's nanoseconds for a byte to the guest (the copy).",
                          DoubleValue(0.5),
                          MakeDoubleAccessor(&Vif::m_rxNsPerByte),
                          MakeDoubleChecker<double>(0))
            .AddAttribute("TxCost",
                          "Driver domain's time for a frame from the guest.",
                          TimeValue(NanoSeconds(1000)),
                          MakeTimeAccessor(&Vif::m_txCost),
                          MakeTimeChecker(Time(0)))
            .AddAttribute("TxNsPerByte",
                          "Driver domain's nanoseconds for a byte from the guest.",
                          DoubleValue(0.1),
                          MakeDoubleAccessor(&Vif::m_txNsPerByte),
                          MakeDoubleChecker<double>(0))
            .AddTraceSource("Drop",
                            "A frame for the guest found neither ring nor queue with room.",
                            MakeTraceSourceAccessor(&Vif::m_dropTrace),
                            "ns3::Packet::TracedCallback");
    return tid;
}

Vif::Vif() = default;
Vif::~Vif() = default;

void
Vif::DoDispose()
{
    m_ring.clear();
    m_queue.clear();
    m_txRing.clear();
    m_device = nullptr;
    m_engine = nullptr;
    m_domain = nullptr;
    Object::DoDispose();
}

void
Vif::Attach(DriverDomain* domain, Ptr<VifDevice> device, uint32_t port)
{
    m_domain = domain;
    m_device = device;
    m_port = port;
}

void
Vif::SetEngine(Ptr<SnoopEngine> engine, uint16_t id)
{
    m_engine = engine;
    m_id = id;
}

Time
Vif::GetRxCost(Ptr<const Packet> frame) const
{
    return CostOf(m_rxCost, m_rxNsPerByte, frame->GetSize());
}

void
Vif::ToGuest(Ptr<Packet> frame)
{
    if (!m_engine)
    {
        Queue(frame, 0);
        return;
    }
    m_domain->m_vcpu->Charge(m_domain->m_snoopCost);
    m_engine->FromPeer(m_id, frame);
    // The usual case, without the detour of another piece of work: what was kept goes straight on.
    Entry entry{nullptr, nullptr, 0};
    if (!m_moving && m_attached && m_queue.empty() && m_ring.size() < m_ringSlots &&
        (entry.frame = m_engine->Next(m_id, entry.held)))
    {
        m_domain->m_vcpu->Charge(m_rxCost);
        Enter(entry);
    }
    Kick();
}

void
Vif::Enter(const Entry& entry)
{
    m_bytes += entry.frame->GetSize();
    m_peakBytes = std::max(m_peakBytes, m_bytes);
    m_domain->m_vcpu->Charge(CostOf(Time(0), m_rxNsPerByte, entry.frame->GetSize()));
    Push(entry);
}

bool
Vif::Queue(Ptr<Packet> frame, uint32_t memory)
{
    if (!m_attached)
    {
        ++m_drops;
        return false;
    }
    const bool fits = m_ring.size() + m_queue.size() < m_ringSlots;
    if (!fits && m_queueBytesUsed + frame->GetSize() > m_queueBytes)
    {
        ++m_drops;
        m_dropTrace(frame);
        return false;
    }
    m_bytes += frame->GetSize();
    m_peakBytes = std::max(m_peakBytes, m_bytes);
    if (fits && m_queue.empty() && !m_moving)
    {
        m_domain->m_vcpu->Charge(GetRxCost(frame));
        Push({frame, nullptr, memory});
        return true;
    }
    m_queue.push_back({frame, nullptr, memory});
    m_queueBytesUsed += frame->GetSize();
    Kick();
    return true;
}

void
Vif::Push(const Entry& entry)
{
    m_ring.push_back(entry);
    if (entry.memory && !m_engine->Entered(m_id))
    {
        m_ring.back().memory = 0;
    }
    m_device->Notify();
}

void
Vif::Kick()
{
    if (m_moving || !m_attached || m_ring.size() >= m_ringSlots ||
        (m_queue.empty() && !(m_engine && m_engine->HasNext(m_id))))
    {
        return;
    }
    m_moving = true;
    m_domain->m_vcpu->Submit(m_rxCost, [this] { Move(); });
}

void
Vif::Move()
{
    m_moving = false;
    if (!m_attached)
    {
        return;
    }
    Entry entry{nullptr, nullptr, 0};
    if (!m_queue.empty())
    {
        entry = m_queue.front();
        m_queue.pop_front();
        m_queueBytesUsed -= entry.frame->GetSize();
        m_bytes -= entry.frame->GetSize();
    }
    else if (m_engine)
    {
        entry.frame = m_engine->Next(m_id, entry.held);
    }
    if (entry.frame)
    {
        Enter(entry);
        if (entry.memory)
        {
            m_engine->Settle();
        }
        Kick();
    }
}

bool
Vif::HasFrame() const
{
    return !m_ring.empty();
}

Ptr<Packet>
Vif::Pop()
{
    const Entry entry = m_ring.front();
    m_ring.pop_front();
    m_bytes -= entry.frame->GetSize();
    if (m_engine)
    {
        m_engine->Consumed(m_id, entry.held, entry.memory);
    }
    Kick();
    return entry.frame;
}

void
Vif::Detach(bool lost)
{
    m_attached = false;
    for (const Entry& entry : m_queue)
    {
        if (entry.memory)
        {
            m_engine->Unsent(m_id);
        }
    }
    m_queue.clear();
    m_queueBytesUsed = 0;
    m_bytes = 0;
    for (; !m_ring.empty(); m_ring.pop_back())
    {
        const Entry& entry = m_ring.back();
        if (entry.held && !lost)
        {
            m_engine->Returned(entry.held);
        }
        else if (m_engine)
        {
            // As far as the engine can know, the guest took it.
            m_engine->Consumed(m_id, entry.held, entry.memory);
        }
    }
}

void
Vif::Reattach()
{
    m_attached = true;
    Kick();
}

Time
Vif::GetTxCost(Ptr<const Packet> frame) const
{
    return CostOf(m_txCost, m_txNsPerByte, frame->GetSize());
}

void
Vif::FromGuest(Ptr<Packet> frame)
{
    m_txRing.push_back(frame);
    if (!m_txPolling)
    {
        m_txPolling = true;
        m_domain->m_vcpu->Submit(GetTxCost(frame), [this] { PollTx(); });
    }
}

void
Vif::PollTx()
{
    if (m_engine && m_txPolled == 0)
    {
        m_engine->BeginPoll();
    }
    // The first one is paid for.
    for (int i = 0; i < DriverDomain::BATCH && !m_txRing.empty(); ++i)
    {
        const Ptr<Packet> frame = m_txRing.front();
        m_txRing.pop_front();
        if (i > 0)
        {
            m_domain->m_vcpu->Charge(GetTxCost(frame));
        }
        m_device->TxDone();
        if (!m_attached)
        {
            continue;
        }
        if (!m_engine)
        {
            m_domain->Forward(m_port, frame);
            continue;
        }
        m_domain->m_vcpu->Charge(m_domain->m_snoopCost);
        if (Ptr<Packet> out = m_engine->FromGuest(m_id, frame))
        {
            m_domain->Forward(m_port, out);
        }
    }
    m_txPolling = !m_txRing.empty();
    m_txPolled += DriverDomain::BATCH;
    if (!m_txPolling || m_txPolled >= POLL_WEIGHT)
    {
        m_txPolled = 0;
        if (m_engine)
        {
            m_engine->EndPoll();
            Kick();
        }
    }
    if (m_txPolling)
    {
        m_domain->m_vcpu->Submit(GetTxCost(m_txRing.front()), [this] { PollTx(); });
    }
}

void
Vif::Emit(Ptr<Packet> frame)
{
    m_domain->m_vcpu->Charge(m_domain->m_emitCost);
    m_domain->Forward(m_port, frame);
}

uint32_t
Vif::GetRoom() const
{
    return m_ringSlots + m_queueBytes / FULL_FRAME;
}

uint64_t
Vif::GetDrops() const
{
    return m_drops;
}

uint64_t
Vif::GetPeakBytes() const
{
    return m_peakBytes;
}

Ptr<SnoopEngine>
Vif::GetEngine() const
{
    return m_engine;
}

uint16_t
Vif::GetEngineId() const
{
    return m_id;
}

Ptr<VifDevice>
Vif::GetDevice() const
{
    return m_device;
}

// ---- the guest's half

TypeId
VifDevice::GetTypeId()
{
    static TypeId tid =
        TypeId("ns3::VifDevice")
            .SetParent<EthernetDevice>()
            .SetGroupName("Vsnoop")
            .AddConstructor<VifDevice>()
            .AddAttribute("RxCost",
                          "Guest's time for a frame received: netfront, stack, application.",
                          TimeValue(NanoSeconds(3250)),
                          MakeTimeAccessor(&VifDevice::m_rxCost),
                          MakeTimeChecker(Time(0)))
            .AddAttribute("RxNsPerByte",
                          "Guest's nanoseconds for a byte received (the copy to the application).",
                          DoubleValue(0.5),
                          MakeDoubleAccessor(&VifDevice::m_rxNsPerByte),
                          MakeDoubleChecker<double>(0))
            .AddAttribute("TxCost",
                          "Guest's time for a frame sent.",
                          TimeValue(NanoSeconds(500)),
                          MakeTimeAccessor(&VifDevice::m_txCost),
                          MakeTimeChecker(Time(0)))
            .AddAttribute("TxNsPerByte",
                          "Guest's nanoseconds for a byte sent.",
                          DoubleValue(0.5),
                          MakeDoubleAccessor(&VifDevice::m_txNsPerByte),
                          MakeDoubleChecker<double>(0))
            .AddAttribute("InterruptCost",
                          "Guest's time to take an event from the driver domain.",
                          TimeValue(NanoSeconds(1000)),
                          MakeTimeAccessor(&VifDevice::m_interruptCost),
                          MakeTimeChecker(Time(0)))
            .AddAttribute("TxRingSlots",
                          "Frames that fit into the transmit ring.",
                          UintegerValue(256),
                          MakeUintegerAccessor(&VifDevice::m_txRingSlots),
                          MakeUintegerChecker<uint32_t>(1))
            .AddAttribute("TxQueueFrames",
                          "Frames that may wait in the guest for the transmit ring.",
                          UintegerValue(10000),
                          MakeUintegerAccessor(&VifDevice::m_txQueueFrames),
                          MakeUintegerChecker<uint32_t>());
    return tid;
}

VifDevice::VifDevice() = default;
VifDevice::~VifDevice() = default;

void
VifDevice::DoDispose()
{
    m_txQueue.clear();
    m_vif = nullptr;
    m_vcpu = nullptr;
    EthernetDevice::DoDispose();
}

void
VifDevice::Attach(Ptr<Vif> vif, Ptr<Vcpu> vcpu)
{
    m_vif = vif;
    m_vcpu = vcpu;
}

void
VifDevice::Notify()
{
    if (!m_polling)
    {
        m_polling = true;
        m_vcpu->Submit(m_interruptCost + m_rxCost, [this] { Poll(); });
    }
}

void
VifDevice::Poll()
{
    if (!m_vif->HasFrame())
    {
        m_polling = false; // the ring was taken away meanwhile
        return;
    }
    Ptr<Packet> frame = m_vif->Pop();
    m_vcpu->Charge(CostOf(Time(0), m_rxNsPerByte, frame->GetSize()));
    ReceiveFrame(frame);
    m_polling = m_vif->HasFrame();
    if (m_polling)
    {
        m_vcpu->Submit(m_rxCost, [this] { Poll(); });
    }
}

bool
VifDevice::SendFrame(Ptr<Packet> frame)
{
    if (m_txQueue.size() >= m_txQueueFrames)
    {
        Drop(frame);
        return false;
    }
    // A timer of the guest's TCP fires while it does not run: the frame waits for the VCPU.
    const Time cost = CostOf(m_txCost, m_txNsPerByte, frame->GetSize());
    if (m_vcpu->IsRunning())
    {
        m_vcpu->Charge(cost);
        Transmit(frame);
    }
    else
    {
        m_vcpu->Submit(cost, [this, frame] { Transmit(frame); });
    }
    return true;
}

void
VifDevice::Transmit(Ptr<Packet> frame)
{
    if (m_txUsed >= m_txRingSlots || !m_txQueue.empty())
    {
        m_txQueue.push_back(frame);
        return;
    }
    ++m_txUsed;
    Sniff(frame);
    m_vif->FromGuest(frame);
}

void
VifDevice::TxDone()
{
    --m_txUsed;
    if (!m_txQueue.empty() && !m_refilling)
    {
        m_refilling = true;
        m_vcpu->Submit(m_interruptCost, [this] { Refill(); });
    }
}

void
VifDevice::Refill()
{
    m_refilling = false;
    while (!m_txQueue.empty() && m_txUsed < m_txRingSlots)
    {
        Ptr<Packet> frame = m_txQueue.front();
        m_txQueue.pop_front();
        ++m_txUsed;
        Sniff(frame);
        m_vif->FromGuest(frame);
    }
}

Ptr<Vcpu>
VifDevice::GetVcpu() const
{
    return m_vcpu;
}

} // namespace ns3
