// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "message-stream.h"

#include "ns3/boolean.h"
#include "ns3/inet-socket-address.h"
#include "ns3/log.h"
#include "ns3/simulator.h"
#include "ns3/uinteger.h"

#include <algorithm>
#include <cstring>

namespace ns3
{

NS_LOG_COMPONENT_DEFINE("MessageStream");
NS_OBJECT_ENSURE_REGISTERED(MessageStream);
NS_OBJECT_ENSURE_REGISTERED(MessageServer);

namespace
{

constexpr uint64_t MAGIC = 0x7673'6e6f'6f70'6d73;
constexpr uint32_t CHUNK = 65536;

/// Byte of the pattern at an offset of the stream (not of a header).
uint8_t
PatternAt(uint64_t offset)
{
    return static_cast<uint8_t>(offset * 31 + (offset >> 10));
}

} // namespace

TypeId
MessageStream::GetTypeId()
{
    static TypeId tid = TypeId("ns3::MessageStream")
                            .SetParent<Object>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<MessageStream>()
                            .AddAttribute("CheckContent",
                                          "Send a pattern and compare every byte received.",
                                          BooleanValue(false),
                                          MakeBooleanAccessor(&MessageStream::m_checkContent),
                                          MakeBooleanChecker());
    return tid;
}

void
MessageStream::DoDispose()
{
    if (m_socket)
    {
        m_socket->SetRecvCallback(MakeNullCallback<void, Ptr<Socket>>());
        m_socket->SetSendCallback(MakeNullCallback<void, Ptr<Socket>, uint32_t>());
    }
    m_socket = nullptr;
    m_receiver = nullptr;
    m_unsent.clear();
    m_unacked.clear();
    Object::DoDispose();
}

Ptr<MessageStream>
MessageStream::Connect(Ptr<Node> node, TypeId factory, const Address& to, Connected connected)
{
    Ptr<MessageStream> stream = CreateObject<MessageStream>();
    Ptr<Socket> socket = Socket::CreateSocket(node, factory);
    MessageStream* raw = PeekPointer(stream);
    socket->SetConnectCallback(
        [raw, connected](Ptr<Socket>) {
            raw->m_connected = true;
            if (connected)
            {
                connected(raw);
            }
            raw->Write();
        },
        [](Ptr<Socket>) { NS_FATAL_ERROR("a connection was refused or timed out"); });
    stream->SetSocket(socket);
    stream->m_connected = false;
    socket->Bind();
    socket->Connect(to);
    return stream;
}

void
MessageStream::SetSocket(Ptr<Socket> socket)
{
    UintegerValue size;
    socket->GetAttribute("SndBufSize", size);
    m_bufferSize = size.Get();
    m_socket = socket;
    m_connected = true;
    socket->SetSendCallback(MakeCallback(&MessageStream::OnSend, this));
    socket->SetRecvCallback(MakeCallback(&MessageStream::OnReceive, this));
}

void
MessageStream::Send(uint64_t size, std::function<void()> acked)
{
    NS_ABORT_MSG_IF(size < SMALLEST, "a message has at least " << SMALLEST << " bytes");
    m_queued += size;
    m_unsent.push_back({size, m_queued, std::move(acked)});
    Write();
}

void
MessageStream::Write()
{
    while (m_connected && !m_unsent.empty())
    {
        const Outgoing& message = m_unsent.front();
        const uint64_t start = message.end - message.size;
        const uint64_t room = m_socket->GetTxAvailable();
        uint64_t length = std::min<uint64_t>({message.end - m_written, room, CHUNK});
        if (length == 0 || (m_written == start && length < SMALLEST))
        {
            return;
        }
        Ptr<Packet> packet;
        if (m_written == start || m_checkContent)
        {
            std::vector<uint8_t> bytes(length);
            for (uint64_t i = 0; m_checkContent && i < length; ++i)
            {
                bytes[i] = PatternAt(m_written + i);
            }
            if (m_written == start)
            {
                std::memcpy(bytes.data(), &MAGIC, 8);
                std::memcpy(bytes.data() + 8, &message.size, 8);
            }
            packet = Create<Packet>(bytes.data(), length);
        }
        else
        {
            packet = Create<Packet>(length);
        }
        const int sent = m_socket->Send(packet);
        if (sent <= 0)
        {
            return;
        }
        NS_ABORT_MSG_IF(static_cast<uint64_t>(sent) != length, "a socket took part of a packet");
        m_written += length;
        if (m_written == message.end)
        {
            m_unacked.push_back(std::move(m_unsent.front()));
            m_unsent.pop_front();
        }
    }
    if (m_connected && m_closing && m_unsent.empty())
    {
        m_closing = false;
        m_socket->Close();
    }
}

uint64_t
MessageStream::GetAckedBytes() const
{
    return m_written - (m_bufferSize - m_socket->GetTxAvailable());
}

void
MessageStream::OnSend(Ptr<Socket>, uint32_t)
{
    Ptr<MessageStream> keep = this;
    while (!m_unacked.empty() && GetAckedBytes() >= m_unacked.front().end)
    {
        const std::function<void()> acked = std::move(m_unacked.front().acked);
        m_unacked.pop_front();
        if (acked)
        {
            acked();
        }
    }
    Write();
}

void
MessageStream::OnReceive(Ptr<Socket> socket)
{
    Ptr<MessageStream> keep = this;
    while (Ptr<Packet> packet = socket->Recv(CHUNK, 0))
    {
        if (packet->GetSize() == 0)
        {
            break;
        }
        Parse(packet);
    }
}

void
MessageStream::Parse(Ptr<Packet> packet)
{
    const uint64_t length = packet->GetSize();
    std::vector<uint8_t> bytes;
    uint64_t at = 0;
    while (at < length)
    {
        if (m_left == 0)
        {
            if (bytes.empty())
            {
                bytes.resize(length);
                packet->CopyData(bytes.data(), length);
            }
            const uint64_t part = std::min<uint64_t>(SMALLEST - m_header.size(), length - at);
            m_header.insert(m_header.end(), bytes.begin() + at, bytes.begin() + at + part);
            at += part;
            m_received += part;
            if (m_header.size() < SMALLEST)
            {
                return;
            }
            uint64_t magic;
            std::memcpy(&magic, m_header.data(), 8);
            std::memcpy(&m_size, m_header.data() + 8, 8);
            NS_ABORT_MSG_IF(magic != MAGIC,
                            "the stream is broken: no message begins at byte "
                                << m_received - SMALLEST);
            m_header.clear();
            m_left = m_size - SMALLEST;
        }
        const uint64_t part = std::min(m_left, length - at);
        if (m_checkContent && part)
        {
            if (bytes.empty())
            {
                bytes.resize(length);
                packet->CopyData(bytes.data(), length);
            }
            for (uint64_t i = 0; i < part; ++i)
            {
                NS_ABORT_MSG_IF(bytes[at + i] != PatternAt(m_received + i),
                                "the stream is broken: byte " << m_received + i << " is wrong");
            }
        }
        at += part;
        m_received += part;
        m_left -= part;
        if (m_left == 0 && m_receiver)
        {
            m_receiver(m_size);
        }
    }
}

void
MessageStream::SetReceiver(Receiver receiver)
{
    m_receiver = std::move(receiver);
}

void
MessageStream::Close()
{
    m_closing = true;
    Write();
}

Ptr<Socket>
MessageStream::GetSocket() const
{
    return m_socket;
}

uint64_t
MessageStream::GetReceivedBytes() const
{
    return m_received;
}

// ---- the server

TypeId
MessageServer::GetTypeId()
{
    static TypeId tid = TypeId("ns3::MessageServer")
                            .SetParent<Object>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<MessageServer>();
    return tid;
}

void
MessageServer::DoDispose()
{
    for (const auto& stream : m_streams)
    {
        stream->Dispose();
    }
    m_streams.clear();
    m_accepted = nullptr;
    m_socket = nullptr;
    Object::DoDispose();
}

void
MessageServer::Listen(Ptr<VirtualMachine> guest, uint16_t port, MessageStream::Connected accepted)
{
    m_accepted = std::move(accepted);
    if (guest->publish)
    {
        guest->publish(port);
    }
    m_socket = Socket::CreateSocket(guest->node, guest->socketFactory);
    m_socket->SetAcceptCallback(MakeNullCallback<bool, Ptr<Socket>, const Address&>(),
                                MakeCallback(&MessageServer::OnAccept, this));
    NS_ABORT_MSG_IF(m_socket->Bind(InetSocketAddress(Ipv4Address::GetAny(), port)) != 0,
                    "port " << port << " is taken");
    m_socket->Listen();
}

void
MessageServer::OnAccept(Ptr<Socket> socket, const Address&)
{
    Ptr<MessageStream> stream = CreateObject<MessageStream>();
    stream->SetSocket(socket);
    m_streams.push_back(stream);
    if (m_accepted)
    {
        m_accepted(stream);
    }
}

const std::vector<Ptr<MessageStream>>&
MessageServer::GetStreams() const
{
    return m_streams;
}

} // namespace ns3
