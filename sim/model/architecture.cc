// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "architecture.h"

#include "outsourced-socket.h"
#include "split-proxy.h"
#include "stream-tcp-socket.h"

#include "ns3/double.h"
#include "ns3/enum.h"
#include "ns3/inet-socket-address.h"
#include "ns3/ipv4.h"
#include "ns3/log.h"
#include "ns3/uinteger.h"

namespace ns3
{

NS_LOG_COMPONENT_DEFINE("Architecture");
NS_OBJECT_ENSURE_REGISTERED(Architecture);
NS_OBJECT_ENSURE_REGISTERED(NetbackArchitecture);
NS_OBJECT_ENSURE_REGISTERED(RingArchitecture);
NS_OBJECT_ENSURE_REGISTERED(HoldArchitecture);
NS_OBJECT_ENSURE_REGISTERED(SethArchitecture);
NS_OBJECT_ENSURE_REGISTERED(NativeArchitecture);
NS_OBJECT_ENSURE_REGISTERED(HostTcpArchitecture);
NS_OBJECT_ENSURE_REGISTERED(OutsourcingArchitecture);
NS_OBJECT_ENSURE_REGISTERED(LinsockArchitecture);
NS_OBJECT_ENSURE_REGISTERED(WindowsDeviceArchitecture);
NS_OBJECT_ENSURE_REGISTERED(LeuloArchitecture);
NS_OBJECT_ENSURE_REGISTERED(SplitProxyArchitecture);

namespace
{

ObjectFactory
VifFactory()
{
    return ObjectFactory("ns3::Vif");
}

ObjectFactory
DeviceFactory()
{
    return ObjectFactory("ns3::VifDevice");
}

Ptr<SnoopEngine>
MakeEngine(SnoopEngine::Policy policy)
{
    return CreateObjectWithAttributes<SnoopEngine>("Policy", EnumValue(policy));
}

} // namespace

TypeId
Architecture::GetTypeId()
{
    static TypeId tid = TypeId("ns3::Architecture").SetParent<Object>().SetGroupName("Vsnoop");
    return tid;
}

void
Architecture::SetupHost(VirtualHost&)
{
}

void
Architecture::AddInterface(VirtualHost& host,
                           VirtualMachine& guest,
                           const ObjectFactory& backend,
                           const ObjectFactory& frontend)
{
    Ptr<VifDevice> device = frontend.Create<VifDevice>();
    guest.vif = backend.Create<Vif>();
    VirtualHost::InstallStack(guest.node, device, guest.address);
    guest.mac = Mac48Address::ConvertFrom(device->GetAddress());
    guest.stack = guest.node;
    guest.socketFactory = StreamTcpSocketFactory::GetTypeId();
    host.GetDriverDomain()->AddVif(guest.vif, device, guest.vcpu);
}

TypeId
NetbackArchitecture::GetTypeId()
{
    static TypeId tid =
        TypeId("ns3::NetbackArchitecture")
            .SetParent<Architecture>()
            .SetGroupName("Vsnoop")
            .AddConstructor<NetbackArchitecture>()
            .AddAttribute("QueueBytes",
                          "Bytes that wait in front of a full ring (netback of 2010: 0).",
                          UintegerValue(524288),
                          MakeUintegerAccessor(&NetbackArchitecture::m_queueBytes),
                          MakeUintegerChecker<uint32_t>());
    return tid;
}

void
NetbackArchitecture::AddGuest(VirtualHost& host, VirtualMachine& guest)
{
    ObjectFactory backend = VifFactory();
    backend.Set("QueueBytes", UintegerValue(m_queueBytes));
    AddInterface(host, guest, backend, DeviceFactory());
}

TypeId
RingArchitecture::GetTypeId()
{
    static TypeId tid = TypeId("ns3::RingArchitecture")
                            .SetParent<NetbackArchitecture>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<RingArchitecture>();
    return tid;
}

void
RingArchitecture::SetupHost(VirtualHost& host)
{
    host.GetDriverDomain()->SetEngine(MakeEngine(SnoopEngine::RING));
}

TypeId
HoldArchitecture::GetTypeId()
{
    static TypeId tid = TypeId("ns3::HoldArchitecture")
                            .SetParent<Architecture>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<HoldArchitecture>();
    return tid;
}

void
HoldArchitecture::SetupHost(VirtualHost& host)
{
    host.GetDriverDomain()->SetEngine(MakeEngine(SnoopEngine::HOLD));
}

void
HoldArchitecture::AddGuest(VirtualHost& host, VirtualMachine& guest)
{
    AddInterface(host, guest, VifFactory(), DeviceFactory());
}

// ---- SETH and the native host

namespace
{

/// An attribute that is a time, 0 or more.
template <typename T>
TypeId
AddTime(TypeId tid, const char* name, const char* help, int64_t ns, Time T::*member)
{
    return tid.AddAttribute(name,
                            help,
                            TimeValue(NanoSeconds(ns)),
                            MakeTimeAccessor(member),
                            MakeTimeChecker(Time(0)));
}

} // namespace

TypeId
SethArchitecture::GetTypeId()
{
    static TypeId tid = [] {
        using Self = SethArchitecture;
        TypeId type = TypeId("ns3::SethArchitecture")
                          .SetParent<Architecture>()
                          .SetGroupName("Vsnoop")
                          .AddConstructor<Self>()
                          .AddAttribute("RingSlots",
                                        "Pages of the shared zones, one a frame.",
                                        UintegerValue(2048),
                                        MakeUintegerAccessor(&Self::m_ringSlots),
                                        MakeUintegerChecker<uint32_t>(1))
                          .AddAttribute("GuestTxNsPerByte",
                                        "Guest's nanoseconds for a byte sent.",
                                        DoubleValue(0.03),
                                        MakeDoubleAccessor(&Self::m_guestTxNsPerByte),
                                        MakeDoubleChecker<double>(0));
        type = AddTime(type,
                       "BackendRxCost",
                       "Backend's time for a frame to the guest.",
                       150,
                       &Self::m_backendRxCost);
        type = AddTime(type,
                       "BackendTxCost",
                       "Backend's time for a frame from the guest.",
                       500,
                       &Self::m_backendTxCost);
        type = AddTime(type,
                       "GuestRxCost",
                       "Guest's time for a frame received.",
                       1800,
                       &Self::m_guestRxCost);
        type = AddTime(type,
                       "GuestTxCost",
                       "Guest's time for a frame sent.",
                       700,
                       &Self::m_guestTxCost);
        return AddTime(type,
                       "GuestInterruptCost",
                       "Guest's time for an event.",
                       2200,
                       &Self::m_guestInterruptCost);
    }();
    return tid;
}

void
SethArchitecture::AddGuest(VirtualHost& host, VirtualMachine& guest)
{
    ObjectFactory backend = VifFactory();
    backend.Set("RingSlots", UintegerValue(m_ringSlots));
    backend.Set("QueueBytes", UintegerValue(0));
    backend.Set("RxCost", TimeValue(m_backendRxCost));
    backend.Set("TxCost", TimeValue(m_backendTxCost));
    ObjectFactory frontend = DeviceFactory();
    frontend.Set("RxCost", TimeValue(m_guestRxCost));
    frontend.Set("TxCost", TimeValue(m_guestTxCost));
    frontend.Set("InterruptCost", TimeValue(m_guestInterruptCost));
    frontend.Set("TxNsPerByte", DoubleValue(m_guestTxNsPerByte));
    AddInterface(host, guest, backend, frontend);
}

TypeId
NativeArchitecture::GetTypeId()
{
    static TypeId tid = [] {
        using Self = NativeArchitecture;
        TypeId type = TypeId("ns3::NativeArchitecture")
                          .SetParent<Architecture>()
                          .SetGroupName("Vsnoop")
                          .AddConstructor<Self>()
                          .AddAttribute("RxNsPerByte",
                                        "Nanoseconds for a byte received.",
                                        DoubleValue(0.885),
                                        MakeDoubleAccessor(&Self::m_rxNsPerByte),
                                        MakeDoubleChecker<double>(0))
                          .AddAttribute("TxNsPerByte",
                                        "Nanoseconds for a byte sent.",
                                        DoubleValue(0.1),
                                        MakeDoubleAccessor(&Self::m_txNsPerByte),
                                        MakeDoubleChecker<double>(0));
        type = AddTime(type,
                       "RxCost",
                       "Time of stack and program for a frame received.",
                       750,
                       &Self::m_rxCost);
        type = AddTime(type,
                       "TxCost",
                       "Time of stack and program for a frame sent.",
                       100,
                       &Self::m_txCost);
        return AddTime(type,
                       "InterruptCost",
                       "Time to wake the program.",
                       0,
                       &Self::m_interruptCost);
    }();
    return tid;
}

void
NativeArchitecture::AddGuest(VirtualHost& host, VirtualMachine& guest)
{
    // No netback: only the stack's own costs remain, on the processor that has the NIC.
    ObjectFactory backend = VifFactory();
    backend.Set("RingSlots", UintegerValue(4096));
    backend.Set("RxCost", TimeValue(Time(0)));
    backend.Set("RxNsPerByte", DoubleValue(0));
    backend.Set("TxCost", TimeValue(Time(0)));
    backend.Set("TxNsPerByte", DoubleValue(0));
    ObjectFactory frontend = DeviceFactory();
    frontend.Set("RxCost", TimeValue(m_rxCost));
    frontend.Set("TxCost", TimeValue(m_txCost));
    frontend.Set("InterruptCost", TimeValue(m_interruptCost));
    frontend.Set("RxNsPerByte", DoubleValue(m_rxNsPerByte));
    frontend.Set("TxNsPerByte", DoubleValue(m_txNsPerByte));
    guest.vcpu = host.GetDriverDomain()->GetVcpu();
    AddInterface(host, guest, backend, frontend);
}

// ---- TCP in the host

TypeId
HostTcpArchitecture::GetTypeId()
{
    static TypeId tid = [] {
        using Self = HostTcpArchitecture;
        TypeId type = TypeId("ns3::HostTcpArchitecture")
                          .SetParent<Architecture>()
                          .SetGroupName("Vsnoop")
                          .AddAttribute("NsPerByte",
                                        "Guest's nanoseconds for a byte moved.",
                                        DoubleValue(0.5),
                                        MakeDoubleAccessor(&Self::m_nsPerByte),
                                        MakeDoubleChecker<double>(0))
                          .AddAttribute("HostNsPerByte",
                                        "Host's nanoseconds for a byte moved.",
                                        DoubleValue(0.2),
                                        MakeDoubleAccessor(&Self::m_hostNsPerByte),
                                        MakeDoubleChecker<double>(0));
        type = AddTime(type,
                       "TcpRxCost",
                       "Host's time for a frame received.",
                       1000,
                       &Self::m_tcpRxCost);
        type = AddTime(type, "TcpTxCost", "Host's time for a frame sent.", 300, &Self::m_tcpTxCost);
        type =
            AddTime(type, "CallCost", "Guest's time for a socket call.", 1000, &Self::m_callCost);
        type = AddTime(type,
                       "HostCallCost",
                       "Host's time for a socket call.",
                       1000,
                       &Self::m_hostCallCost);
        return AddTime(type,
                       "EventCost",
                       "Guest's time for an event of the host.",
                       1000,
                       &Self::m_eventCost);
    }();
    return tid;
}

void
HostTcpArchitecture::DoDispose()
{
    m_stack = nullptr;
    Architecture::DoDispose();
}

void
HostTcpArchitecture::SetupHost(VirtualHost& host)
{
    Ptr<DriverDomain> domain = host.GetDriverDomain();
    m_stack = CreateObject<Node>();
    ObjectFactory backend = VifFactory();
    backend.Set("RingSlots", UintegerValue(4096));
    backend.Set("RxCost", TimeValue(Time(0)));
    backend.Set("RxNsPerByte", DoubleValue(0));
    backend.Set("TxCost", TimeValue(Time(0)));
    backend.Set("TxNsPerByte", DoubleValue(0));
    ObjectFactory frontend = DeviceFactory();
    frontend.Set("RxCost", TimeValue(m_tcpRxCost));
    frontend.Set("RxNsPerByte", DoubleValue(0));
    frontend.Set("TxCost", TimeValue(m_tcpTxCost));
    frontend.Set("TxNsPerByte", DoubleValue(0));
    frontend.Set("InterruptCost", TimeValue(Time(0)));
    Ptr<VifDevice> device = frontend.Create<VifDevice>();
    m_stackAddress = Ipv4Address(0x0aff0000 + host.GetNode()->GetId());
    VirtualHost::InstallStack(m_stack, device, m_stackAddress);
    m_stackMac = Mac48Address::ConvertFrom(device->GetAddress());
    domain->AddVif(backend.Create<Vif>(), device, domain->GetVcpu());
}

void
HostTcpArchitecture::AddGuest(VirtualHost& host, VirtualMachine& guest)
{
    Ptr<Ipv4> ipv4 = m_stack->GetObject<Ipv4>();
    ipv4->AddAddress(1, Ipv4InterfaceAddress(guest.address, Ipv4Mask("255.0.0.0")));
    guest.stack = m_stack;
    guest.mac = m_stackMac;
    guest.socketFactory = OutsourcedSocketFactory::GetTypeId();
    Ptr<OutsourcedSocketFactory> factory = CreateObject<OutsourcedSocketFactory>();
    factory->guest = guest.node;
    factory->guestVcpu = guest.vcpu;
    factory->stack = m_stack;
    factory->hostVcpu = host.GetDriverDomain()->GetVcpu();
    factory->address = guest.address;
    factory->callCost = m_callCost;
    factory->hostCallCost = m_hostCallCost;
    factory->eventCost = m_eventCost;
    factory->nsPerByte = m_nsPerByte;
    factory->hostNsPerByte = m_hostNsPerByte;
    guest.node->AggregateObject(factory);
}

TypeId
OutsourcingArchitecture::GetTypeId()
{
    static TypeId tid = TypeId("ns3::OutsourcingArchitecture")
                            .SetParent<HostTcpArchitecture>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<OutsourcingArchitecture>();
    return tid;
}

TypeId
LinsockArchitecture::GetTypeId()
{
    static TypeId tid = TypeId("ns3::LinsockArchitecture")
                            .SetParent<HostTcpArchitecture>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<LinsockArchitecture>();
    return tid;
}

void
LinsockArchitecture::NotifyConstructionCompleted()
{
    HostTcpArchitecture::NotifyConstructionCompleted();
    // An attribute of the base class cannot have another default here.
    SetAttribute("CallCost", TimeValue(MicroSeconds(5)));
    SetAttribute("EventCost", TimeValue(MicroSeconds(3)));
}

TypeId
WindowsDeviceArchitecture::GetTypeId()
{
    static TypeId tid = [] {
        using Self = WindowsDeviceArchitecture;
        TypeId type = TypeId("ns3::WindowsDeviceArchitecture")
                          .SetParent<Architecture>()
                          .SetGroupName("Vsnoop")
                          .AddConstructor<Self>();
        type = AddTime(type,
                       "DeviceCost",
                       "Host's time for a frame either way.",
                       9000,
                       &Self::m_deviceCost);
        return AddTime(type,
                       "GuestCost",
                       "Guest's time for a frame either way.",
                       6000,
                       &Self::m_guestCost);
    }();
    return tid;
}

void
WindowsDeviceArchitecture::AddGuest(VirtualHost& host, VirtualMachine& guest)
{
    ObjectFactory backend = VifFactory();
    backend.Set("RxCost", TimeValue(m_deviceCost));
    backend.Set("TxCost", TimeValue(m_deviceCost));
    ObjectFactory frontend = DeviceFactory();
    frontend.Set("RxCost", TimeValue(m_guestCost));
    frontend.Set("TxCost", TimeValue(m_guestCost));
    AddInterface(host, guest, backend, frontend);
}

TypeId
LeuloArchitecture::GetTypeId()
{
    static TypeId tid = TypeId("ns3::LeuloArchitecture")
                            .SetParent<HostTcpArchitecture>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<LeuloArchitecture>();
    return tid;
}

void
LeuloArchitecture::NotifyConstructionCompleted()
{
    HostTcpArchitecture::NotifyConstructionCompleted();
    SetAttribute("CallCost", TimeValue(NanoSeconds(500)));
    SetAttribute("HostCallCost", TimeValue(NanoSeconds(500)));
    SetAttribute("EventCost", TimeValue(NanoSeconds(500)));
}

TypeId
SplitProxyArchitecture::GetTypeId()
{
    static TypeId tid = TypeId("ns3::SplitProxyArchitecture")
                            .SetParent<HostTcpArchitecture>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<SplitProxyArchitecture>();
    return tid;
}

void
SplitProxyArchitecture::DoDispose()
{
    if (m_proxy)
    {
        m_proxy->Dispose();
    }
    m_proxy = nullptr;
    HostTcpArchitecture::DoDispose();
}

void
SplitProxyArchitecture::AddGuest(VirtualHost& host, VirtualMachine& guest)
{
    const Ipv4Address outer = guest.address;
    const Ipv4Address inner(outer.Get() | 0x00800000);
    m_stack->GetObject<Ipv4>()->AddAddress(1, Ipv4InterfaceAddress(outer, Ipv4Mask("255.0.0.0")));
    guest.address = inner;
    AddInterface(host, guest, VifFactory(), DeviceFactory());
    VirtualHost::LearnNeighbour(m_stack, inner, guest.mac);
    VirtualHost::LearnNeighbour(guest.node, m_stackAddress, m_stackMac);
    VirtualHost::LearnNeighbour(guest.node, outer, m_stackMac);
    guest.address = outer;
    guest.mac = m_stackMac;
    guest.stack = m_stack;
    Ptr<SplitProxy> proxy = DynamicCast<SplitProxy>(m_proxy);
    if (!proxy)
    {
        proxy = CreateObject<SplitProxy>();
        m_proxy = proxy;
    }
    guest.publish = [proxy,
                     stack = m_stack,
                     vcpu = host.GetDriverDomain()->GetVcpu(),
                     outer,
                     inner](uint16_t port) {
        proxy->Publish(stack, vcpu, InetSocketAddress(outer, port), InetSocketAddress(inner, port));
    };
}

} // namespace ns3
