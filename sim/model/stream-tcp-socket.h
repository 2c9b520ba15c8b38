// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "ns3/socket-factory.h"
#include "ns3/tcp-socket-base.h"

namespace ns3
{

/**
 * \ingroup vsnoop
 * \brief ns-3's TCP with four faults of ns-3.37 worked around.
 *
 * - TcpSocketBase asks its send buffer for a segment that is not there, after losses with SACK and
 *   when the window limits it, and follows the null pointer (TcpRateLinux::SkbSent). Here it stops
 *   sending until the next ACK instead.
 * - TcpSocketBase sends no window update when the application reads: a sender that met a closed
 *   window waits for its persist timer. Here reading announces a window that has grown by a quarter
 *   of the buffer or two segments, whichever is less (RFC 9293 3.8.6.2.2), if it was small.
 * - A segment between two sockets of one node arrives while it is being sent, and the ACK before
 * the sender has booked the segment, which it then ignores. Here it arrives a moment later.
 * - The byte with which TcpSocketBase probes a closed window is not booked as sent: an ACK of it is
 *   ignored for ever. And it takes it from an empty buffer. Here it is booked, and must be there.
 */
class StreamTcpSocket : public TcpSocketBase
{
  public:
    static TypeId GetTypeId();
    Ptr<Packet> Recv(uint32_t maxSize, uint32_t flags) override;

  protected:
    Ptr<TcpSocketBase> Fork() override;
    void DoForwardUp(Ptr<Packet> packet, const Address& from, const Address& to) override;
    void PersistTimeout() override;
    uint32_t SendDataPacket(SequenceNumber32 seq, uint32_t maxSize, bool withAck) override;
    uint32_t AvailableWindow() const override;

  private:
    /// What the base class does with a segment.
    void ForwardLater(Ptr<Packet> packet, Address from, Address to);

    mutable bool m_nothing{false}; //!< the send buffer had nothing where it was asked
};

/**
 * \ingroup vsnoop
 * \brief Makes StreamTcpSockets, on a node with TCP.
 */
class StreamTcpSocketFactory : public SocketFactory
{
  public:
    static TypeId GetTypeId();
    Ptr<Socket> CreateSocket() override;
    /**
     * \param node a node with TCP, other than the one this is aggregated to
     * \returns a socket of that node
     */
    static Ptr<Socket> CreateSocketOn(Ptr<Node> node);
};

} // namespace ns3
