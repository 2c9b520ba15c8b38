// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "ns3/message-stream.h"
#include "ns3/tcp-socket-state.h"
#include "ns3/testbed-helper.h"

namespace ns3
{

/**
 * \ingroup vsnoop
 * \brief One transfer from a peer to a guest, in a simulation of its own.
 *
 * The guest answers with a short message as soon as it has read the last byte, as real protocols
 * do.
 */
class Transfer
{
  public:
    /// What came of it.
    struct Result
    {
        Time sender;            //!< until the last byte was acknowledged
        Time receiver;          //!< until the guest's program had read the last byte
        uint32_t timeouts{0};   //!< retransmission timeouts of the sender
        uint32_t recoveries{0}; //!< fast recoveries of the sender
        uint64_t received{0};   //!< bytes that the guest's program read
        uint64_t earlyAcks{0};  //!< ACKs sent on the guest's behalf
        uint64_t peakHeld{0};   //!< most memory in custody, in bytes
        uint64_t peakRing{0};   //!< most bytes in ring and queue
        uint64_t drops{0};      //!< frames dropped in front of the guest or by the host's NIC
        Time guestCpu;          //!< work of the guest's VCPU, meanwhile
        Time domainCpu;         //!< work of the driver domain's
        Time neighbourCpu;      //!< time that the neighbours had
        uint64_t events{0};     //!< of the whole simulation
        double wallSeconds{0};  //!< it took in real time
    };

    /**
     * \param testbed what to build
     * \param size bytes
     * \param fresh true: the connection is opened by the transfer; false: long before it
     * \param phase when it begins, after a second of warm-up
     */
    Transfer(TestbedHelper& testbed, uint64_t size, bool fresh, Time phase);
    /**
     * Runs the simulation.
     * \param pcap prefix of captures to write; empty: none
     * \returns what came of it
     */
    Result Run(const std::string& pcap = "");

  private:
    void Connect();
    void Begin();
    void Send();
    void OnState(TcpSocketState::TcpCongState_t old, TcpSocketState::TcpCongState_t now);
    std::vector<Time> CpuTimes() const;
    void Finished();

    TestbedHelper& m_testbed;
    uint64_t m_size;
    bool m_fresh;
    Time m_phase;
    Ptr<VirtualMachine> m_guest;
    Ptr<MessageServer> m_server;
    Ptr<MessageStream> m_client;
    Time m_started;
    std::vector<Time> m_cpu;
    int m_left{2};
    Result m_result;
};

} // namespace ns3
