// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "ns3/architecture.h"
#include "ns3/command-line.h"
#include "ns3/error-model.h"
#include "ns3/virtual-host.h"

#include <string>
#include <vector>

namespace ns3
{

/**
 * \ingroup vsnoop
 * \brief Builds peers and virtualised hosts, from what a command line says.
 *
 * One host: peers - cable - [switch - cable -] NIC, driver domain, guests. The driver domain has a
 * processor of its own unless it is told to share the guests'. The first guests have a network, the
 * others on the same processor are neighbours that compute.
 */
class TestbedHelper
{
  public:
    /// As on the command line; see AddTo() for the meaning of each.
    std::string architecture{"hold"};
    std::string scheduler{"rr"};
    Time slice{MilliSeconds(30)};
    uint32_t vms{3};
    uint32_t guests{1};
    uint32_t peers{1};
    std::string guest{"io"};
    Time linger{0};
    bool shareDriverDomain{false};
    DataRate rate{"1Gbps"};
    Time delay{MicroSeconds(50)};
    std::string congestion{"TcpCubic"};
    uint32_t initialWindow{10};
    uint32_t receiveBuffer{4 << 20};
    bool timestamps{true};
    double loss{0};
    uint32_t lossBurst{1};
    double reorder{0};
    uint32_t cap{0};
    uint32_t run{1};

    /// The testbed's options, for an experiment's command line.
    void AddTo(CommandLine& command);
    /// Sets the TCP of all nodes to come, and the seed: for each simulation anew.
    void SetDefaults() const;
    /// Builds `peers` senders and one host, connected by a switch if there is more than one peer.
    void Build();
    /**
     * Lets frames be lost from now on, or none: what is to be measured begins with an open
     * connection.
     * \param on as the fields say
     */
    void SetLossy(bool on) const;
    /**
     * Adds a host to a switch, in a scenario with many.
     * \param bridge the switch
     * \returns the host
     */
    Ptr<VirtualHost> AddHost(Ptr<EthernetBridge> bridge);
    /**
     * Adds a node with an address of its own to a switch.
     * \param bridge the switch
     * \returns the node
     */
    Ptr<Node> AddPeer(Ptr<EthernetBridge> bridge);

    /// \returns the switch
    Ptr<EthernetBridge> GetSwitch() const;
    /// \returns the host (the first one)
    Ptr<VirtualHost> GetHost() const;
    /**
     * \param i number of the peer
     * \returns its node
     */
    Ptr<Node> GetPeer(uint32_t i) const;
    /**
     * \param i number of the guest
     * \returns the guest
     */
    Ptr<VirtualMachine> GetGuest(uint32_t i) const;
    /// \returns the VCPUs of the neighbours of the first host
    const std::vector<Ptr<Vcpu>>& GetNeighbours() const;
    /// \returns the processor that the guests of the first host share
    Ptr<CpuScheduler> GetGuestCpu() const;

    /**
     * Makes two ends know each other's MAC address.
     * \param peer a node
     * \param guest a guest
     */
    static void Introduce(Ptr<Node> peer, Ptr<VirtualMachine> guest);
    /**
     * Writes captures of the guest's interface and of a peer's.
     * \param prefix of the file names
     */
    void EnablePcap(const std::string& prefix) const;
    /// \returns all names of architectures
    static std::vector<std::string> GetArchitectures();
    /**
     * \param name of an architecture
     * \returns a new one
     */
    static Ptr<Architecture> MakeArchitecture(const std::string& name);

  private:
    ObjectFactory SchedulerFactory() const;
    Ipv4Address NextAddress();
    Ptr<LinkDevice> MakeLink() const;
    Ptr<LinkDevice> Plug(Ptr<Node> node, Ptr<EthernetBridge> bridge);

    std::vector<Ptr<Node>> m_peers;
    std::vector<Ptr<VirtualHost>> m_hosts;
    std::vector<Ptr<Vcpu>> m_neighbours;
    Ptr<CpuScheduler> m_guestCpu;
    Ptr<EthernetBridge> m_switch;
    std::vector<Ptr<ErrorModel>> m_losses;
    uint32_t m_addresses{0};
    int64_t m_stream{1000};
};

} // namespace ns3
