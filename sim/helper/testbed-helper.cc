// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "testbed-helper.h"

#include "ns3/boolean.h"
#include "ns3/config.h"
#include "ns3/credit-scheduler.h"
#include "ns3/data-rate.h"
#include "ns3/double.h"
#include "ns3/internet-stack-helper.h"
#include "ns3/ipv4.h"
#include "ns3/pointer.h"
#include "ns3/rng-seed-manager.h"
#include "ns3/string.h"
#include "ns3/trace-helper.h"
#include "ns3/uinteger.h"

#include <map>
#include <sstream>

namespace ns3
{

namespace
{

/// Writes every frame that a device sends or receives.
void
Capture(Ptr<PcapFileWrapper> file, Ptr<const Packet> frame)
{
    file->Write(Simulator::Now(), frame);
}

} // namespace

void
TestbedHelper::AddTo(CommandLine& command)
{
    command.AddValue("architecture", "how guests do networking", architecture);
    command.AddValue("scheduler", "rr, rr-boost, credit, credit2, rtds or dedicated", scheduler);
    command.AddValue("slice", "of rr and credit; the period of rtds is a third of it", slice);
    command.AddValue("vms", "VMs that share the guests' processor", vms);
    command.AddValue("guests", "how many of them have a network", guests);
    command.AddValue("peers", "nodes that they talk to", peers);
    command.AddValue("guest", "io (blocks when idle) or busy (computes)", guest);
    command.AddValue("linger", "time that an idle io guest keeps its processor", linger);
    command.AddValue("shareDriverDomain",
                     "the driver domain shares the guests' processor",
                     shareDriverDomain);
    command.AddValue("rate", "bits per second of each link", rate);
    command.AddValue("delay", "of each link, one way", delay);
    command.AddValue("congestion", "TypeId of the congestion control, without ns3::", congestion);
    command.AddValue("initialWindow", "segments of the initial window", initialWindow);
    command.AddValue("receiveBuffer", "bytes of each receive buffer", receiveBuffer);
    command.AddValue("timestamps", "TCP timestamps (ns-3's clock ticks in ms)", timestamps);
    command.AddValue("loss", "part of the frames lost on the way to the host", loss);
    command.AddValue("lossBurst", "how many are lost in a row", lossBurst);
    command.AddValue("reorder", "part of the frames overtaken on the way to the host", reorder);
    command.AddValue("cap", "percent of the processor that a guest may have (credit); 0: all", cap);
    command.AddValue("run", "number of the run: another one draws other random numbers", run);
}

void
TestbedHelper::SetDefaults() const
{
    RngSeedManager::SetSeed(1);
    RngSeedManager::SetRun(run);
    // ns-3's own defaults are a segment of 536 bytes and a least RTO of 1 s; these are Linux's.
    Config::SetDefault("ns3::TcpL4Protocol::SocketType",
                       TypeIdValue(TypeId::LookupByName("ns3::" + congestion)));
    Config::SetDefault("ns3::TcpSocket::SegmentSize", UintegerValue(timestamps ? 1448 : 1460));
    Config::SetDefault("ns3::TcpSocket::InitialCwnd", UintegerValue(initialWindow));
    Config::SetDefault("ns3::TcpSocket::SndBufSize", UintegerValue(16 << 20));
    Config::SetDefault("ns3::TcpSocket::RcvBufSize", UintegerValue(receiveBuffer));
    Config::SetDefault("ns3::TcpSocket::DelAckCount", UintegerValue(2));
    Config::SetDefault("ns3::TcpSocket::DelAckTimeout", TimeValue(MilliSeconds(40)));
    Config::SetDefault("ns3::TcpSocket::PersistTimeout", TimeValue(MilliSeconds(200)));
    Config::SetDefault("ns3::TcpSocket::ConnTimeout", TimeValue(Seconds(1)));
    Config::SetDefault("ns3::TcpSocket::DataRetries", UintegerValue(15)); // ns-3: 6
    Config::SetDefault("ns3::TcpSocketBase::MinRto", TimeValue(MilliSeconds(200)));
    Config::SetDefault("ns3::TcpSocketBase::Timestamp", BooleanValue(timestamps));
}

std::vector<std::string>
TestbedHelper::GetArchitectures()
{
    return {"netback-2010",
            "ring-2010",
            "netback",
            "ring",
            "hold",
            "seth",
            "split-proxy",
            "outsourcing",
            "leulo",
            "windows-device",
            "linsock",
            "native"};
}

Ptr<Architecture>
TestbedHelper::MakeArchitecture(const std::string& name)
{
    ObjectFactory factory;
    static const std::map<std::string, std::string> types{
        {"netback", "ns3::NetbackArchitecture"},
        {"netback-2010", "ns3::NetbackArchitecture"},
        {"ring", "ns3::RingArchitecture"},
        {"ring-2010", "ns3::RingArchitecture"},
        {"hold", "ns3::HoldArchitecture"},
        {"seth", "ns3::SethArchitecture"},
        {"split-proxy", "ns3::SplitProxyArchitecture"},
        {"outsourcing", "ns3::OutsourcingArchitecture"},
        {"leulo", "ns3::LeuloArchitecture"},
        {"windows-device", "ns3::WindowsDeviceArchitecture"},
        {"linsock", "ns3::LinsockArchitecture"},
        {"native", "ns3::NativeArchitecture"},
    };
    const auto type = types.find(name);
    NS_ABORT_MSG_IF(type == types.end(), "no architecture '" << name << "'");
    factory.SetTypeId(type->second);
    if (name == "netback-2010" || name == "ring-2010")
    {
        factory.Set("QueueBytes", UintegerValue(0));
    }
    return factory.Create<Architecture>();
}

ObjectFactory
TestbedHelper::SchedulerFactory() const
{
    ObjectFactory factory;
    if (scheduler == "rr" || scheduler == "rr-boost" || scheduler == "dedicated")
    {
        factory.SetTypeId("ns3::RoundRobinScheduler");
        factory.Set("Slice", TimeValue(slice));
        factory.Set("Boost", BooleanValue(scheduler == "rr-boost"));
    }
    else if (scheduler == "credit")
    {
        factory.SetTypeId("ns3::CreditScheduler");
        factory.Set("Slice", TimeValue(slice));
        factory.Set("RateLimit", TimeValue(std::min(slice, Time(MilliSeconds(1)))));
    }
    else if (scheduler == "credit2")
    {
        factory.SetTypeId("ns3::Credit2Scheduler");
    }
    else if (scheduler == "rtds")
    {
        factory.SetTypeId("ns3::RtdsScheduler");
        factory.Set("Period", TimeValue(slice / 3));
        factory.Set("Budget", TimeValue(slice / 3 / std::max(1U, vms)));
        factory.Set("RateLimit", TimeValue(Time(0)));
    }
    else
    {
        NS_ABORT_MSG("no scheduler '" << scheduler
                                      << "'; there are rr, rr-boost, credit, credit2, rtds and "
                                         "dedicated");
    }
    return factory;
}

Ipv4Address
TestbedHelper::NextAddress()
{
    return Ipv4Address(0x0a000001 + m_addresses++);
}

Ptr<LinkDevice>
TestbedHelper::MakeLink() const
{
    return CreateObjectWithAttributes<LinkDevice>("DataRate", DataRateValue(rate));
}

Ptr<LinkDevice>
TestbedHelper::Plug(Ptr<Node> node, Ptr<EthernetBridge> bridge)
{
    Ptr<LinkDevice> nic = MakeLink();
    Ptr<LinkDevice> port = MakeLink();
    m_stream += nic->AssignStreams(m_stream);
    m_stream += port->AssignStreams(m_stream);
    node->AddDevice(nic);
    bridge->GetObject<Node>()->AddDevice(port);
    bridge->AddDevice(port);
    EthernetDevice::Connect(nic, port, delay);
    return nic;
}

Ptr<Node>
TestbedHelper::AddPeer(Ptr<EthernetBridge> bridge)
{
    Ptr<Node> node = CreateObject<Node>();
    Ptr<LinkDevice> nic = MakeLink();
    Ptr<LinkDevice> port = MakeLink();
    m_stream += nic->AssignStreams(m_stream);
    m_stream += port->AssignStreams(m_stream);
    VirtualHost::InstallStack(node, nic, NextAddress());
    bridge->GetObject<Node>()->AddDevice(port);
    bridge->AddDevice(port);
    EthernetDevice::Connect(nic, port, delay);
    m_peers.push_back(node);
    return node;
}

Ptr<VirtualHost>
TestbedHelper::AddHost(Ptr<EthernetBridge> bridge)
{
    Ptr<Node> node = CreateObject<Node>();
    Ptr<LinkDevice> nic = Plug(node, bridge);
    if (loss > 0)
    {
        NS_ABORT_MSG_IF(lossBurst == 0, "of a burst at least one frame is lost");
        std::ostringstream burst;
        burst << "ns3::ConstantRandomVariable[Constant=" << lossBurst << "]";
        Ptr<BurstErrorModel> model =
            CreateObjectWithAttributes<BurstErrorModel>("ErrorRate",
                                                        DoubleValue(loss / lossBurst),
                                                        "BurstSize",
                                                        StringValue(burst.str()));
        m_stream += model->AssignStreams(m_stream);
        nic->SetAttribute("ReceiveErrorModel", PointerValue(model));
        m_losses.push_back(model);
    }
    if (reorder > 0)
    {
        nic->GetChannel()->GetDevice(1)->SetAttribute("ReorderProbability", DoubleValue(reorder));
    }

    Ptr<VirtualHost> host = CreateObject<VirtualHost>();
    Ptr<CpuScheduler> guestCpu = host->AddCpu(SchedulerFactory());
    Ptr<CpuScheduler> domainCpu =
        shareDriverDomain ? guestCpu : host->AddCpu(ObjectFactory("ns3::RoundRobinScheduler"));
    host->Setup(node, nic, domainCpu, MakeArchitecture(architecture));
    NS_ABORT_MSG_IF(guest != "io" && guest != "busy",
                    "a guest is io or busy, not '" << guest << "'");
    NS_ABORT_MSG_IF(guests > vms, "of " << vms << " VMs, " << guests << " cannot have a network");
    ObjectFactory vcpu("ns3::Vcpu");
    vcpu.Set("Busy", BooleanValue(guest == "busy"));
    vcpu.Set("Linger", TimeValue(linger));
    vcpu.Set("Cap", UintegerValue(cap));
    for (uint32_t i = 0; i < guests; ++i)
    {
        // With a processor of its own for each guest, the neighbours are elsewhere.
        Ptr<CpuScheduler> cpu =
            scheduler == "dedicated" && i > 0 ? host->AddCpu(SchedulerFactory()) : guestCpu;
        host->AddGuest(cpu, vcpu, NextAddress());
    }
    for (uint32_t i = guests; i < vms && scheduler != "dedicated"; ++i)
    {
        Ptr<Vcpu> neighbour = host->AddNeighbour(guestCpu);
        if (m_hosts.empty())
        {
            m_neighbours.push_back(neighbour);
        }
    }
    if (m_hosts.empty())
    {
        m_guestCpu = guestCpu;
    }
    m_hosts.push_back(host);
    return host;
}

void
TestbedHelper::Build()
{
    m_peers.clear();
    m_hosts.clear();
    m_neighbours.clear();
    m_losses.clear();
    m_addresses = 0;
    SetDefaults();
    Ptr<Node> node = CreateObject<Node>();
    m_switch = CreateObject<EthernetBridge>();
    node->AggregateObject(m_switch);
    AddHost(m_switch);
    for (uint32_t i = 0; i < peers; ++i)
    {
        Ptr<Node> peer = AddPeer(m_switch);
        for (const auto& guest : GetHost()->GetGuests())
        {
            Introduce(peer, guest);
        }
    }
    for (const auto& one : GetHost()->GetGuests())
    {
        for (const auto& other : GetHost()->GetGuests())
        {
            if (one != other)
            {
                VirtualHost::LearnNeighbour(one->stack, other->address, other->mac);
            }
        }
    }
}

void
TestbedHelper::SetLossy(bool on) const
{
    for (const auto& model : m_losses)
    {
        on ? model->Enable() : model->Disable();
    }
}

void
TestbedHelper::Introduce(Ptr<Node> peer, Ptr<VirtualMachine> guest)
{
    Ptr<Ipv4> ipv4 = peer->GetObject<Ipv4>();
    const Mac48Address mac = Mac48Address::ConvertFrom(ipv4->GetNetDevice(1)->GetAddress());
    VirtualHost::LearnNeighbour(peer, guest->address, guest->mac);
    VirtualHost::LearnNeighbour(guest->stack, ipv4->GetAddress(1, 0).GetLocal(), mac);
}

void
TestbedHelper::EnablePcap(const std::string& prefix) const
{
    PcapHelper pcap;
    const auto capture = [&](Ptr<NetDevice> device, const std::string& name) {
        Ptr<PcapFileWrapper> file =
            pcap.CreateFile(prefix + "-" + name + ".pcap", std::ios::out, PcapHelper::DLT_EN10MB);
        device->TraceConnectWithoutContext("PromiscSniffer", MakeBoundCallback(&Capture, file));
    };
    for (uint32_t i = 0; i < m_peers.size(); ++i)
    {
        capture(m_peers[i]->GetDevice(0), "peer" + std::to_string(i));
    }
    for (uint32_t i = 0; i < GetHost()->GetGuests().size(); ++i)
    {
        if (const Ptr<Vif> vif = GetGuest(i)->vif)
        {
            capture(vif->GetDevice(), "guest" + std::to_string(i));
        }
    }
}

Ptr<EthernetBridge>
TestbedHelper::GetSwitch() const
{
    return m_switch;
}

Ptr<VirtualHost>
TestbedHelper::GetHost() const
{
    return m_hosts.front();
}

Ptr<Node>
TestbedHelper::GetPeer(uint32_t i) const
{
    return m_peers[i];
}

Ptr<VirtualMachine>
TestbedHelper::GetGuest(uint32_t i) const
{
    return GetHost()->GetGuests()[i];
}

const std::vector<Ptr<Vcpu>>&
TestbedHelper::GetNeighbours() const
{
    return m_neighbours;
}

Ptr<CpuScheduler>
TestbedHelper::GetGuestCpu() const
{
    return m_guestCpu;
}

} // namespace ns3
