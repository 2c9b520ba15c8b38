// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "ns3/address.h"
#include "ns3/node.h"
#include "ns3/object.h"
#include "ns3/socket.h"
#include "ns3/virtual-host.h"

#include <deque>
#include <functional>
#include <vector>

namespace ns3
{

/**
 * \ingroup vsnoop
 * \brief Messages of a given size over a stream socket: what the workloads are made of.
 *
 * A message begins with a header that says its size, and is that many bytes long, header included.
 * The receiver checks the header of each, so a stream that lost or gained a byte ends the
 * simulation at the next message; with CheckContent it checks every byte.
 */
class MessageStream : public Object
{
  public:
    /// A message arrived as a whole: its size in bytes.
    typedef std::function<void(uint64_t size)> Receiver;
    /// A connection is there.
    typedef std::function<void(Ptr<MessageStream> stream)> Connected;

    static constexpr uint32_t SMALLEST = 16; //!< bytes of the smallest message: a header

    static TypeId GetTypeId();

    /**
     * Opens a connection.
     * \param node who connects
     * \param factory kind of socket
     * \param to where to
     * \param connected called when it is open
     * \returns the stream
     */
    static Ptr<MessageStream> Connect(Ptr<Node> node,
                                      TypeId factory,
                                      const Address& to,
                                      Connected connected);
    /**
     * Uses an open socket.
     * \param socket the socket
     */
    void SetSocket(Ptr<Socket> socket);
    /**
     * Sends a message.
     * \param size bytes, at least SMALLEST
     * \param acked called when the other end has acknowledged all of it; may be empty
     */
    void Send(uint64_t size, std::function<void()> acked = nullptr);
    /**
     * \param receiver called for each message
     */
    void SetReceiver(Receiver receiver);
    /// Sends what is left, then closes.
    void Close();
    /// \returns the socket
    Ptr<Socket> GetSocket() const;
    /// \returns bytes received so far
    uint64_t GetReceivedBytes() const;
    /// \returns bytes sent so far and acknowledged
    uint64_t GetAckedBytes() const;

  protected:
    void DoDispose() override;

  private:
    void OnSend(Ptr<Socket> socket, uint32_t available);
    void OnReceive(Ptr<Socket> socket);
    void Write();
    void Parse(Ptr<Packet> packet);

    /// A message that is on its way.
    struct Outgoing
    {
        uint64_t size;
        uint64_t end; //!< offset in the stream
        std::function<void()> acked;
    };

    Ptr<Socket> m_socket;
    bool m_connected{false};
    bool m_closing{false};
    uint32_t m_bufferSize{0};
    std::deque<Outgoing> m_unsent;
    std::deque<Outgoing> m_unacked;
    uint64_t m_queued{0};
    uint64_t m_written{0};
    uint64_t m_received{0};
    uint64_t m_size{0}; //!< of the message being received
    uint64_t m_left{0}; //!< of it
    std::vector<uint8_t> m_header;
    Receiver m_receiver;
    bool m_checkContent;
};

/**
 * \ingroup vsnoop
 * \brief Accepts connections and makes a MessageStream of each.
 */
class MessageServer : public Object
{
  public:
    static TypeId GetTypeId();
    /**
     * \param guest who listens
     * \param port port
     * \param accepted called for each connection
     */
    void Listen(Ptr<VirtualMachine> guest, uint16_t port, MessageStream::Connected accepted);
    /// \returns the connections, in the order they came
    const std::vector<Ptr<MessageStream>>& GetStreams() const;

  protected:
    void DoDispose() override;

  private:
    void OnAccept(Ptr<Socket> socket, const Address& from);

    Ptr<Socket> m_socket;
    MessageStream::Connected m_accepted;
    std::vector<Ptr<MessageStream>> m_streams;
};

} // namespace ns3
