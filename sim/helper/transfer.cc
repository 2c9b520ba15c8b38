// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "transfer.h"

#include "ns3/inet-socket-address.h"
#include "ns3/simulator.h"
#include "ns3/stream-tcp-socket.h"

#include <chrono>

namespace ns3
{

namespace
{

constexpr uint16_t PORT = 5001;

} // namespace

Transfer::Transfer(TestbedHelper& testbed, uint64_t size, bool fresh, Time phase)
    : m_testbed(testbed),
      m_size(size),
      m_fresh(fresh),
      m_phase(phase)
{
}

Transfer::Result
Transfer::Run(const std::string& pcap)
{
    const auto begin = std::chrono::steady_clock::now();
    m_testbed.Build();
    if (!pcap.empty())
    {
        m_testbed.EnablePcap(pcap);
    }
    m_testbed.SetLossy(false);
    m_guest = m_testbed.GetGuest(0);
    m_server = CreateObject<MessageServer>();
    m_server->Listen(m_guest, PORT, [this](auto accepted) {
        MessageStream* stream = PeekPointer(accepted);
        stream->SetReceiver([this, stream](uint64_t) {
            m_result.receiver = Simulator::Now() - m_started;
            stream->Send(MessageStream::SMALLEST);
            Finished();
        });
        if (!m_fresh)
        {
            // The guest speaks first, so that the peer knows the whole of its window.
            stream->Send(MessageStream::SMALLEST);
        }
    });
    if (!m_fresh)
    {
        Simulator::Schedule(MilliSeconds(1), &Transfer::Connect, this);
    }
    Simulator::Schedule(Seconds(1) + m_phase, &Transfer::Begin, this);
    Simulator::Stop(Seconds(600));
    Simulator::Run();
    NS_ABORT_MSG_UNLESS(m_left == 0,
                        m_testbed.architecture << ": a transfer of " << m_size
                                               << " bytes was not finished in 600 s");
    m_result.events = Simulator::GetEventCount();
    m_client->Dispose();
    m_server->Dispose();
    m_guest = nullptr;
    Simulator::Destroy();
    m_result.wallSeconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return m_result;
}

void
Transfer::Connect()
{
    m_client = MessageStream::Connect(m_testbed.GetPeer(0),
                                      StreamTcpSocketFactory::GetTypeId(),
                                      InetSocketAddress(m_guest->address, PORT),
                                      [this](auto) {
                                          if (m_fresh)
                                          {
                                              Send();
                                          }
                                      });
}

void
Transfer::Begin()
{
    m_testbed.SetLossy(true);
    m_started = Simulator::Now();
    m_cpu = CpuTimes();
    if (m_fresh)
    {
        Connect();
        return;
    }
    NS_ABORT_MSG_UNLESS(m_client->GetReceivedBytes() == MessageStream::SMALLEST,
                        "the connection is not open");
    Send();
}

void
Transfer::Send()
{
    m_client->GetSocket()->TraceConnectWithoutContext("CongState",
                                                      MakeCallback(&Transfer::OnState, this));
    m_client->Send(m_size, [this] {
        m_result.sender = Simulator::Now() - m_started;
        Finished();
    });
}

void
Transfer::OnState(TcpSocketState::TcpCongState_t, TcpSocketState::TcpCongState_t now)
{
    m_result.timeouts += now == TcpSocketState::CA_LOSS;
    m_result.recoveries += now == TcpSocketState::CA_RECOVERY;
}

std::vector<Time>
Transfer::CpuTimes() const
{
    std::vector<Time> times{m_guest->vcpu->GetWorkTime(),
                            m_testbed.GetHost()->GetDriverDomain()->GetVcpu()->GetWorkTime(),
                            Time(0)};
    for (const auto& neighbour : m_testbed.GetNeighbours())
    {
        times[2] += neighbour->GetCpuTime();
    }
    return times;
}

void
Transfer::Finished()
{
    if (--m_left > 0)
    {
        return;
    }
    const std::vector<Time> now = CpuTimes();
    m_result.guestCpu = now[0] - m_cpu[0];
    m_result.domainCpu = now[1] - m_cpu[1];
    m_result.neighbourCpu = now[2] - m_cpu[2];
    m_result.received = m_server->GetStreams().front()->GetReceivedBytes();
    m_result.drops = m_testbed.GetHost()->GetDriverDomain()->GetNicDrops();
    if (const Ptr<Vif> vif = m_guest->vif)
    {
        m_result.drops += vif->GetDrops();
        m_result.peakRing = vif->GetPeakBytes();
        if (const Ptr<SnoopEngine> engine = vif->GetEngine())
        {
            m_result.peakHeld = engine->GetPeakHeld(vif->GetEngineId());
            m_result.earlyAcks = engine->GetEarlyAcks(vif->GetEngineId());
        }
    }
    Simulator::Stop();
}

} // namespace ns3
