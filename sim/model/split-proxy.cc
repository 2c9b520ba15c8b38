// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "split-proxy.h"

#include "stream-tcp-socket.h"

#include "ns3/double.h"
#include "ns3/log.h"

#include <algorithm>

namespace ns3
{

NS_LOG_COMPONENT_DEFINE("SplitProxy");
NS_OBJECT_ENSURE_REGISTERED(SplitProxy);

namespace
{

constexpr uint32_t CHUNK = 65536; // bytes that one pair of calls moves

} // namespace

TypeId
SplitProxy::GetTypeId()
{
    static TypeId tid =
        TypeId("ns3::SplitProxy")
            .SetParent<Object>()
            .SetGroupName("Vsnoop")
            .AddConstructor<SplitProxy>()
            .AddAttribute("CallCost",
                          "Time for reading from one socket and writing to the other.",
                          TimeValue(MicroSeconds(2)),
                          MakeTimeAccessor(&SplitProxy::m_callCost),
                          MakeTimeChecker(Time(0)))
            .AddAttribute("NsPerByte",
                          "Nanoseconds for a byte, copied in and out.",
                          DoubleValue(1.0),
                          MakeDoubleAccessor(&SplitProxy::m_nsPerByte),
                          MakeDoubleChecker<double>(0));
    return tid;
}

SplitProxy::SplitProxy() = default;
SplitProxy::~SplitProxy() = default;

void
SplitProxy::DoDispose()
{
    for (const auto& [socket, half] : m_halves)
    {
        socket->SetRecvCallback(MakeNullCallback<void, Ptr<Socket>>());
        socket->SetSendCallback(MakeNullCallback<void, Ptr<Socket>, uint32_t>());
    }
    m_halves.clear();
    m_listening.clear();
    m_vcpu = nullptr;
    Object::DoDispose();
}

void
SplitProxy::Publish(Ptr<Node> node, Ptr<Vcpu> vcpu, const Address& listen, const Address& target)
{
    m_vcpu = vcpu;
    Ptr<Socket> socket = StreamTcpSocketFactory::CreateSocketOn(node);
    socket->SetAcceptCallback(MakeNullCallback<bool, Ptr<Socket>, const Address&>(),
                              [this, node, target](Ptr<Socket> accepted, const Address&) {
                                  OnAccept(accepted, node, target);
                              });
    NS_ABORT_MSG_IF(socket->Bind(listen) != 0, "the proxy's port is taken");
    socket->Listen();
    m_listening.push_back(socket);
}

void
SplitProxy::OnAccept(Ptr<Socket> outer, Ptr<Node> node, Address target)
{
    Ptr<Socket> inner = StreamTcpSocketFactory::CreateSocketOn(node);
    m_halves[outer].other = inner;
    m_halves[outer].connected = true;
    m_halves[inner].other = outer;
    for (const Ptr<Socket>& socket : {outer, inner})
    {
        socket->SetRecvCallback(MakeCallback(&SplitProxy::OnData, this));
        socket->SetSendCallback(MakeCallback(&SplitProxy::OnSpace, this));
        socket->SetCloseCallbacks(MakeCallback(&SplitProxy::OnClose, this),
                                  MakeCallback(&SplitProxy::OnClose, this));
    }
    inner->SetConnectCallback(
        [this](Ptr<Socket> socket) {
            m_halves[socket].connected = true;
            OnData(m_halves[socket].other);
        },
        [](Ptr<Socket>) { NS_FATAL_ERROR("the proxy's guest refused a connection"); });
    inner->Bind();
    m_vcpu->Submit(m_callCost, [inner, target] { inner->Connect(target); });
    OnData(outer);
}

void
SplitProxy::OnData(Ptr<Socket> from)
{
    Half& half = m_halves[from];
    if (half.moving || !m_halves[half.other].connected || from->GetRxAvailable() == 0)
    {
        return;
    }
    const uint32_t size = std::min({from->GetRxAvailable(), half.other->GetTxAvailable(), CHUNK});
    if (size == 0)
    {
        return; // until there is space
    }
    half.moving = true;
    m_vcpu->Submit(m_callCost + NanoSeconds(static_cast<int64_t>(m_nsPerByte * size)),
                   [this, from] { Move(from); });
}

void
SplitProxy::Move(Ptr<Socket> from)
{
    Half& half = m_halves[from];
    half.moving = false;
    const uint32_t size = std::min({from->GetRxAvailable(), half.other->GetTxAvailable(), CHUNK});
    if (size > 0)
    {
        half.other->Send(from->Recv(size, 0));
    }
    if (half.closed && from->GetRxAvailable() == 0)
    {
        half.other->Close();
        return;
    }
    OnData(from);
}

void
SplitProxy::OnSpace(Ptr<Socket> to, uint32_t)
{
    OnData(m_halves[to].other);
}

void
SplitProxy::OnClose(Ptr<Socket> socket)
{
    Half& half = m_halves[socket];
    half.closed = true;
    if (!half.moving && socket->GetRxAvailable() == 0)
    {
        half.other->Close();
    }
}

} // namespace ns3
