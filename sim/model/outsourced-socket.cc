// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "outsourced-socket.h"

#include "stream-tcp-socket.h"

#include "ns3/inet-socket-address.h"
#include "ns3/log.h"
#include "ns3/simulator.h"
#include "ns3/uinteger.h"

#include <algorithm>

namespace ns3
{

NS_LOG_COMPONENT_DEFINE("OutsourcedSocket");
NS_OBJECT_ENSURE_REGISTERED(OutsourcedSocket);
NS_OBJECT_ENSURE_REGISTERED(OutsourcedSocketFactory);

namespace
{

constexpr uint32_t CHUNK = 65536; // bytes that one call moves

} // namespace

TypeId
OutsourcedSocket::GetTypeId()
{
    static TypeId tid = TypeId("ns3::OutsourcedSocket")
                            .SetParent<Socket>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<OutsourcedSocket>()
                            .AddAttribute("SndBufSize",
                                          "Bytes of the host's send buffer.",
                                          TypeId::ATTR_GET,
                                          UintegerValue(0),
                                          MakeUintegerAccessor(&OutsourcedSocket::GetSndBufSize),
                                          MakeUintegerChecker<uint32_t>());
    return tid;
}

OutsourcedSocket::OutsourcedSocket() = default;

OutsourcedSocket::~OutsourcedSocket()
{
    // The host's socket may live on: in TIME-WAIT, say.
    if (m_socket)
    {
        m_socket->SetRecvCallback(MakeNullCallback<void, Ptr<Socket>>());
        m_socket->SetSendCallback(MakeNullCallback<void, Ptr<Socket>, uint32_t>());
    }
}

void
OutsourcedSocket::DoDispose()
{
    m_factory = nullptr;
    Socket::DoDispose();
}

void
OutsourcedSocket::Setup(Ptr<OutsourcedSocketFactory> factory, Ptr<Socket> socket)
{
    m_factory = factory;
    m_socket = socket;
    socket->SetRecvCallback(MakeCallback(&OutsourcedSocket::OnData, this));
    socket->SetSendCallback(MakeCallback(&OutsourcedSocket::OnSpace, this));
}

uint32_t
OutsourcedSocket::GetSndBufSize() const
{
    UintegerValue size;
    m_socket->GetAttribute("SndBufSize", size);
    return size.Get();
}

int
OutsourcedSocket::Bind(const Address& address)
{
    const uint16_t port = InetSocketAddress::ConvertFrom(address).GetPort();
    return m_socket->Bind(InetSocketAddress(m_factory->address, port));
}

int
OutsourcedSocket::Bind()
{
    return m_socket->Bind(InetSocketAddress(m_factory->address, 0));
}

int
OutsourcedSocket::Bind6()
{
    return -1;
}

int
OutsourcedSocket::Listen()
{
    m_socket->SetAcceptCallback(MakeNullCallback<bool, Ptr<Socket>, const Address&>(),
                                MakeCallback(&OutsourcedSocket::OnAccept, this));
    return m_socket->Listen();
}

void
OutsourcedSocket::OnAccept(Ptr<Socket> socket, const Address& from)
{
    Ptr<OutsourcedSocket> accepted = m_factory->Wrap(socket);
    Ptr<OutsourcedSocket> keep = this;
    m_factory->guestVcpu->Submit(m_factory->eventCost + m_factory->callCost,
                                 [keep, accepted, from] {
                                     keep->NotifyNewConnectionCreated(accepted, from);
                                     accepted->OnData(accepted->m_socket);
                                 });
}

int
OutsourcedSocket::Connect(const Address& address)
{
    Ptr<OutsourcedSocket> keep = this;
    m_factory->guestVcpu->Charge(m_factory->callCost);
    m_socket->SetConnectCallback(
        [keep](Ptr<Socket>) {
            keep->m_factory->guestVcpu->Submit(keep->m_factory->eventCost, [keep] {
                keep->NotifyConnectionSucceeded();
                keep->NotifySend(keep->GetTxAvailable());
            });
        },
        [keep](Ptr<Socket>) { keep->NotifyConnectionFailed(); });
    m_factory->hostVcpu->Submit(m_factory->hostCallCost,
                                [keep, address] { keep->m_socket->Connect(address); });
    return 0;
}

int
OutsourcedSocket::Send(Ptr<Packet> packet, uint32_t flags)
{
    const uint32_t size = packet->GetSize();
    if (GetTxAvailable() < size)
    {
        m_errno = ERROR_MSGSIZE;
        return -1;
    }
    const auto bytes = [size](double ns) { return NanoSeconds(static_cast<int64_t>(ns * size)); };
    m_factory->guestVcpu->Charge(m_factory->callCost + bytes(m_factory->nsPerByte));
    m_pending += size;
    Ptr<OutsourcedSocket> keep = this;
    m_factory->hostVcpu->Submit(m_factory->hostCallCost + bytes(m_factory->hostNsPerByte),
                                [keep, packet, flags, size] {
                                    keep->m_pending -= size;
                                    keep->m_socket->Send(packet, flags);
                                });
    return size;
}

void
OutsourcedSocket::OnSpace(Ptr<Socket>, uint32_t)
{
    const uint32_t buffer = GetSndBufSize();
    const uint32_t available = m_socket->GetTxAvailable();
    const bool drained = available == buffer;
    if (m_telling || !m_factory || !(drained || (m_wanting && available >= buffer / 2)))
    {
        return;
    }
    m_telling = true;
    m_wanting = false;
    Ptr<OutsourcedSocket> keep = this;
    m_factory->guestVcpu->Submit(m_factory->eventCost, [keep] {
        keep->m_telling = false;
        keep->NotifySend(keep->GetTxAvailable());
    });
}

void
OutsourcedSocket::OnData(Ptr<Socket>)
{
    if (!m_reading && m_factory)
    {
        Read();
    }
}

void
OutsourcedSocket::Read()
{
    const uint32_t size = std::min(m_socket->GetRxAvailable(), CHUNK);
    m_reading = size > 0;
    if (!m_reading)
    {
        return;
    }
    const auto bytes = [size](double ns) { return NanoSeconds(static_cast<int64_t>(ns * size)); };
    m_factory->hostVcpu->Charge(m_factory->hostCallCost + bytes(m_factory->hostNsPerByte));
    Ptr<OutsourcedSocket> keep = this;
    m_factory->guestVcpu->Submit(m_factory->eventCost + m_factory->callCost +
                                     bytes(m_factory->nsPerByte),
                                 [keep, size] {
                                     keep->m_granted += size;
                                     keep->NotifyDataRecv();
                                     if (keep->m_factory)
                                     {
                                         keep->Read();
                                     }
                                 });
}

Ptr<Packet>
OutsourcedSocket::Recv(uint32_t maxSize, uint32_t flags)
{
    const uint32_t size = std::min(maxSize, m_granted);
    if (size == 0)
    {
        return nullptr;
    }
    Ptr<Packet> packet = m_socket->Recv(size, flags);
    m_granted -= packet ? packet->GetSize() : m_granted;
    return packet;
}

Ptr<Packet>
OutsourcedSocket::RecvFrom(uint32_t maxSize, uint32_t flags, Address& from)
{
    m_socket->GetPeerName(from);
    return Recv(maxSize, flags);
}

int
OutsourcedSocket::Close()
{
    Ptr<OutsourcedSocket> keep = this;
    m_factory->guestVcpu->Charge(m_factory->callCost);
    m_factory->hostVcpu->Submit(m_factory->hostCallCost, [keep] { keep->m_socket->Close(); });
    return 0;
}

int
OutsourcedSocket::ShutdownSend()
{
    return m_socket->ShutdownSend();
}

int
OutsourcedSocket::ShutdownRecv()
{
    return m_socket->ShutdownRecv();
}

int
OutsourcedSocket::SendTo(Ptr<Packet> packet, uint32_t flags, const Address&)
{
    return Send(packet, flags);
}

uint32_t
OutsourcedSocket::GetTxAvailable() const
{
    const uint32_t available = m_socket->GetTxAvailable();
    const uint32_t left = available > m_pending ? available - m_pending : 0;
    m_wanting |= left < CHUNK;
    return left;
}

uint32_t
OutsourcedSocket::GetRxAvailable() const
{
    return m_granted;
}

Socket::SocketErrno
OutsourcedSocket::GetErrno() const
{
    return m_errno;
}

Socket::SocketType
OutsourcedSocket::GetSocketType() const
{
    return NS3_SOCK_STREAM;
}

Ptr<Node>
OutsourcedSocket::GetNode() const
{
    return m_factory->guest;
}

int
OutsourcedSocket::GetSockName(Address& address) const
{
    return m_socket->GetSockName(address);
}

int
OutsourcedSocket::GetPeerName(Address& address) const
{
    return m_socket->GetPeerName(address);
}

bool
OutsourcedSocket::SetAllowBroadcast(bool allowBroadcast)
{
    return !allowBroadcast;
}

bool
OutsourcedSocket::GetAllowBroadcast() const
{
    return false;
}

// ---- the factory

TypeId
OutsourcedSocketFactory::GetTypeId()
{
    static TypeId tid = TypeId("ns3::OutsourcedSocketFactory")
                            .SetParent<SocketFactory>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<OutsourcedSocketFactory>();
    return tid;
}

void
OutsourcedSocketFactory::DoDispose()
{
    guest = nullptr;
    guestVcpu = nullptr;
    stack = nullptr;
    hostVcpu = nullptr;
    SocketFactory::DoDispose();
}

Ptr<Socket>
OutsourcedSocketFactory::CreateSocket()
{
    return Wrap(StreamTcpSocketFactory::CreateSocketOn(stack));
}

Ptr<OutsourcedSocket>
OutsourcedSocketFactory::Wrap(Ptr<Socket> socket)
{
    Ptr<OutsourcedSocket> wrapped = CreateObject<OutsourcedSocket>();
    wrapped->Setup(this, socket);
    return wrapped;
}

} // namespace ns3
