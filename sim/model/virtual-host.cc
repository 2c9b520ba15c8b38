// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "virtual-host.h"

#include "architecture.h"
#include "stream-tcp-socket.h"

#include "ns3/arp-cache.h"
#include "ns3/boolean.h"
#include "ns3/internet-stack-helper.h"
#include "ns3/ipv4-interface.h"
#include "ns3/ipv4-l3-protocol.h"
#include "ns3/log.h"

namespace ns3
{

NS_LOG_COMPONENT_DEFINE("VirtualHost");
NS_OBJECT_ENSURE_REGISTERED(VirtualMachine);
NS_OBJECT_ENSURE_REGISTERED(VirtualHost);

TypeId
VirtualMachine::GetTypeId()
{
    static TypeId tid = TypeId("ns3::VirtualMachine")
                            .SetParent<Object>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<VirtualMachine>();
    return tid;
}

void
VirtualMachine::DoDispose()
{
    publish = nullptr;
    node = nullptr;
    stack = nullptr;
    vcpu = nullptr;
    vif = nullptr;
    Object::DoDispose();
}

TypeId
VirtualHost::GetTypeId()
{
    static TypeId tid = TypeId("ns3::VirtualHost")
                            .SetParent<Object>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<VirtualHost>();
    return tid;
}

VirtualHost::VirtualHost() = default;
VirtualHost::~VirtualHost() = default;

void
VirtualHost::DoInitialize()
{
    for (const auto& cpu : m_cpus)
    {
        cpu->Initialize();
    }
    Object::DoInitialize();
}

void
VirtualHost::DoDispose()
{
    for (const auto& cpu : m_cpus)
    {
        cpu->Dispose();
    }
    if (m_architecture)
    {
        m_architecture->Dispose();
    }
    if (m_domain)
    {
        m_domain->Dispose();
    }
    m_cpus.clear();
    m_guests.clear();
    m_domain = nullptr;
    m_architecture = nullptr;
    m_node = nullptr;
    Object::DoDispose();
}

Ptr<CpuScheduler>
VirtualHost::AddCpu(ObjectFactory scheduler)
{
    m_cpus.push_back(scheduler.Create<CpuScheduler>());
    return m_cpus.back();
}

void
VirtualHost::Setup(Ptr<Node> node,
                   Ptr<EthernetDevice> nic,
                   Ptr<CpuScheduler> cpu,
                   Ptr<Architecture> architecture)
{
    m_node = node;
    m_architecture = architecture;
    node->AggregateObject(this);
    Ptr<Vcpu> vcpu = CreateObject<Vcpu>();
    vcpu->SetContext(node->GetId());
    cpu->Add(vcpu);
    m_domain = CreateObject<DriverDomain>();
    m_domain->Setup(vcpu, nic);
    architecture->SetupHost(*this);
}

Ptr<VirtualMachine>
VirtualHost::AddGuest(Ptr<CpuScheduler> cpu, ObjectFactory vcpu, Ipv4Address address)
{
    Ptr<VirtualMachine> guest = CreateObject<VirtualMachine>();
    guest->node = CreateObject<Node>();
    guest->vcpu = vcpu.Create<Vcpu>();
    guest->vcpu->SetContext(guest->node->GetId());
    guest->address = address;
    cpu->Add(guest->vcpu);
    m_architecture->AddGuest(*this, *guest);
    m_guests.push_back(guest);
    return guest;
}

Ptr<Vcpu>
VirtualHost::AddNeighbour(Ptr<CpuScheduler> cpu)
{
    Ptr<Vcpu> vcpu = CreateObjectWithAttributes<Vcpu>("Busy", BooleanValue(true));
    cpu->Add(vcpu);
    return vcpu;
}

Ptr<DriverDomain>
VirtualHost::GetDriverDomain() const
{
    return m_domain;
}

const std::vector<Ptr<VirtualMachine>>&
VirtualHost::GetGuests() const
{
    return m_guests;
}

Ptr<Architecture>
VirtualHost::GetArchitecture() const
{
    return m_architecture;
}

Ptr<Node>
VirtualHost::GetNode() const
{
    return m_node;
}

void
VirtualHost::InstallStack(Ptr<Node> node, Ptr<EthernetDevice> device, Ipv4Address address)
{
    // No queue disc: what waits to be sent waits in the device.
    InternetStackHelper stack;
    stack.SetIpv6StackInstall(false);
    stack.Install(node);
    node->AggregateObject(CreateObject<StreamTcpSocketFactory>());
    node->AddDevice(device);
    Ptr<Ipv4> ipv4 = node->GetObject<Ipv4>();
    const uint32_t interface = ipv4->AddInterface(device);
    ipv4->AddAddress(interface, Ipv4InterfaceAddress(address, Ipv4Mask("255.0.0.0")));
    ipv4->SetUp(interface);
}

void
VirtualHost::LearnNeighbour(Ptr<Node> node, Ipv4Address address, Mac48Address mac)
{
    Ptr<Ipv4L3Protocol> ipv4 = node->GetObject<Ipv4L3Protocol>();
    // Interface 0 is the loopback.
    for (uint32_t i = 1; ipv4 && i < ipv4->GetNInterfaces(); ++i)
    {
        Ptr<ArpCache> cache = ipv4->GetInterface(i)->GetArpCache();
        ArpCache::Entry* entry = cache->Lookup(address);
        if (!entry)
        {
            entry = cache->Add(address);
        }
        entry->SetMacAddress(mac);
        entry->MarkPermanent();
    }
}

} // namespace ns3
