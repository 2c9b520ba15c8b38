// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "vcpu.h"

#include "ns3/ipv4-address.h"
#include "ns3/node.h"
#include "ns3/socket-factory.h"
#include "ns3/socket.h"

namespace ns3
{

class OutsourcedSocketFactory;

/**
 * \ingroup vsnoop
 * \brief A guest's stream socket whose TCP runs in the host.
 *
 * Calls of the guest are messages to the host through shared memory; events of the host are
 * messages to the guest, and wake it. Handshakes, acknowledgements and retransmissions are the
 * host's and do not wait for the guest; the guest's program does its reading when it runs, at the
 * cost of a call and a copy, so many bytes at a time. It is told of space in the send buffer when
 * there is some again after there was too little, and when all was acknowledged; not of every ACK.
 * Between two guests of one host the host's TCP is a loopback.
 */
class OutsourcedSocket : public Socket
{
  public:
    static TypeId GetTypeId();
    OutsourcedSocket();
    ~OutsourcedSocket() override;

    /**
     * \param factory knows guest, host and costs
     * \param socket the host's
     */
    void Setup(Ptr<OutsourcedSocketFactory> factory, Ptr<Socket> socket);

    // from Socket
    SocketErrno GetErrno() const override;
    SocketType GetSocketType() const override;
    Ptr<Node> GetNode() const override;
    int Bind(const Address& address) override;
    int Bind() override;
    int Bind6() override;
    int Close() override;
    int ShutdownSend() override;
    int ShutdownRecv() override;
    int Connect(const Address& address) override;
    int Listen() override;
    uint32_t GetTxAvailable() const override;
    int Send(Ptr<Packet> packet, uint32_t flags) override;
    int SendTo(Ptr<Packet> packet, uint32_t flags, const Address& to) override;
    uint32_t GetRxAvailable() const override;
    Ptr<Packet> Recv(uint32_t maxSize, uint32_t flags) override;
    Ptr<Packet> RecvFrom(uint32_t maxSize, uint32_t flags, Address& from) override;
    int GetSockName(Address& address) const override;
    int GetPeerName(Address& address) const override;
    bool SetAllowBroadcast(bool allowBroadcast) override;
    bool GetAllowBroadcast() const override;

  protected:
    void DoDispose() override;

  private:
    void OnAccept(Ptr<Socket> socket, const Address& from);
    void OnData(Ptr<Socket> socket);
    void OnSpace(Ptr<Socket> socket, uint32_t available);
    /// Asks the guest's VCPU to read what there is.
    void Read();
    uint32_t GetSndBufSize() const;

    /// The guest wants to be told of space: it found less than a call moves.
    mutable bool m_wanting{false};

    Ptr<OutsourcedSocketFactory> m_factory;
    Ptr<Socket> m_socket;
    uint32_t m_pending{0}; //!< bytes on their way to the host's socket
    uint32_t m_granted{0}; //!< bytes that the guest has paid for reading
    bool m_reading{false};
    bool m_telling{false}; //!< that there is space
    SocketErrno m_errno{ERROR_NOTERROR};
};

/**
 * \ingroup vsnoop
 * \brief Makes a guest's OutsourcedSockets.
 */
class OutsourcedSocketFactory : public SocketFactory
{
  public:
    static TypeId GetTypeId();
    Ptr<Socket> CreateSocket() override;
    /**
     * \param socket the host's
     * \returns the guest's socket for it
     */
    Ptr<OutsourcedSocket> Wrap(Ptr<Socket> socket);

    Ptr<Node> guest;         //!< node of the guest
    Ptr<Vcpu> guestVcpu;     //!< executes it
    Ptr<Node> stack;         //!< node of the host's TCP/IP
    Ptr<Vcpu> hostVcpu;      //!< executes that
    Ipv4Address address;     //!< that the guest has there
    Time callCost;           //!< guest's time for a call
    Time hostCallCost;       //!< host's time for a call
    Time eventCost;          //!< guest's time to take an event
    double nsPerByte{0};     //!< guest's nanoseconds for a byte moved
    double hostNsPerByte{0}; //!< host's

  protected:
    void DoDispose() override;
};

} // namespace ns3
