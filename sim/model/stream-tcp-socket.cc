// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "stream-tcp-socket.h"

#include "ns3/inet-socket-address.h"
#include "ns3/ipv4.h"
#include "ns3/log.h"
#include "ns3/node.h"
#include "ns3/object-factory.h"
#include "ns3/rtt-estimator.h"
#include "ns3/simulator.h"
#include "ns3/tcp-congestion-ops.h"
#include "ns3/tcp-header.h"
#include "ns3/tcp-l4-protocol.h"
#include "ns3/tcp-recovery-ops.h"
#include "ns3/tcp-rx-buffer.h"
#include "ns3/tcp-tx-buffer.h"

#include <algorithm>

namespace ns3
{

NS_LOG_COMPONENT_DEFINE("StreamTcpSocket");
NS_OBJECT_ENSURE_REGISTERED(StreamTcpSocket);
NS_OBJECT_ENSURE_REGISTERED(StreamTcpSocketFactory);

namespace
{

const Time LOOPBACK = MicroSeconds(1); // of a segment between two sockets of one node

} // namespace

TypeId
StreamTcpSocket::GetTypeId()
{
    static TypeId tid = TypeId("ns3::StreamTcpSocket")
                            .SetParent<TcpSocketBase>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<StreamTcpSocket>();
    return tid;
}

Ptr<TcpSocketBase>
StreamTcpSocket::Fork()
{
    return CopyObject<StreamTcpSocket>(this);
}

void
StreamTcpSocket::DoForwardUp(Ptr<Packet> packet, const Address& from, const Address& to)
{
    const Ipv4Address source = InetSocketAddress::ConvertFrom(from).GetIpv4();
    if (m_node->GetObject<Ipv4>()->GetInterfaceForAddress(source) < 0)
    {
        TcpSocketBase::DoForwardUp(packet, from, to);
        return;
    }
    Ptr<StreamTcpSocket> self = this;
    Simulator::Schedule(LOOPBACK, &StreamTcpSocket::ForwardLater, self, packet, from, to);
}

void
StreamTcpSocket::ForwardLater(Ptr<Packet> packet, Address from, Address to)
{
    if (m_endPoint) // it may have been closed meanwhile
    {
        TcpSocketBase::DoForwardUp(packet, from, to);
    }
}

uint32_t
StreamTcpSocket::SendDataPacket(SequenceNumber32 seq, uint32_t maxSize, bool withAck)
{
    if (maxSize == 0 || m_txBuffer->SizeFromSequence(seq) == 0)
    {
        m_nothing = true;
        return 0;
    }
    return TcpSocketBase::SendDataPacket(seq, maxSize, withAck);
}

void
StreamTcpSocket::PersistTimeout()
{
    if (m_txBuffer->SizeFromSequence(m_tcb->m_nextTxSequence) == 0)
    {
        return; // nothing to probe with
    }
    TcpSocketBase::PersistTimeout();
    m_tcb->m_highTxMark = std::max(m_tcb->m_highTxMark.Get(), m_tcb->m_nextTxSequence.Get() + 1);
}

uint32_t
StreamTcpSocket::AvailableWindow() const
{
    if (m_nothing)
    {
        m_nothing = false; // ends the loop that asked for what is not there
        return 0;
    }
    return TcpSocketBase::AvailableWindow();
}

Ptr<Packet>
StreamTcpSocket::Recv(uint32_t maxSize, uint32_t flags)
{
    const auto window = [this] {
        return static_cast<uint32_t>(m_tcb->m_rxBuffer->MaxRxSequence() -
                                     m_tcb->m_rxBuffer->NextRxSequence());
    };
    const uint32_t shown = m_advWnd;
    Ptr<Packet> packet = TcpSocketBase::Recv(maxSize, flags);
    const uint32_t buffer = m_tcb->m_rxBuffer->MaxBufferSize();
    if (packet && m_state == ESTABLISHED && shown < buffer / 2 &&
        window() >= shown + std::min(buffer / 4, 2 * GetSegSize()))
    {
        SendEmptyPacket(TcpHeader::ACK);
    }
    return packet;
}

TypeId
StreamTcpSocketFactory::GetTypeId()
{
    static TypeId tid = TypeId("ns3::StreamTcpSocketFactory")
                            .SetParent<SocketFactory>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<StreamTcpSocketFactory>();
    return tid;
}

Ptr<Socket>
StreamTcpSocketFactory::CreateSocket()
{
    return CreateSocketOn(GetObject<Node>());
}

Ptr<Socket>
StreamTcpSocketFactory::CreateSocketOn(Ptr<Node> node)
{
    // What TcpL4Protocol::CreateSocket() does for its own kind of socket.
    Ptr<TcpL4Protocol> tcp = node->GetObject<TcpL4Protocol>();
    const auto make = [&tcp](const char* attribute) {
        TypeIdValue type;
        tcp->GetAttribute(attribute, type);
        ObjectFactory factory;
        factory.SetTypeId(type.Get());
        return factory.Create();
    };
    Ptr<StreamTcpSocket> socket = CreateObject<StreamTcpSocket>();
    socket->SetNode(node);
    socket->SetTcp(tcp);
    socket->SetRtt(make("RttEstimatorType")->GetObject<RttEstimator>());
    socket->SetCongestionControlAlgorithm(make("SocketType")->GetObject<TcpCongestionOps>());
    socket->SetRecoveryAlgorithm(make("RecoveryType")->GetObject<TcpRecoveryOps>());
    tcp->AddSocket(socket);
    return socket;
}

} // namespace ns3
