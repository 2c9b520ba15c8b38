// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "driver-domain.h"

#include "ns3/ipv4-address.h"
#include "ns3/node.h"
#include "ns3/object-factory.h"

#include <functional>
#include <vector>

namespace ns3
{

class Architecture;

/**
 * \ingroup vsnoop
 * \brief A guest: a node whose programs run on a VCPU.
 */
class VirtualMachine : public Object
{
  public:
    static TypeId GetTypeId();

    Ptr<Node> node;       //!< its sockets are made here
    Ptr<Node> stack;      //!< its TCP/IP runs here; the same node unless the host does that
    Ptr<Vcpu> vcpu;       //!< executes it
    Ptr<Vif> vif;         //!< its network interface; null if it has none of its own
    Ipv4Address address;  //!< where its services are reached
    Mac48Address mac;     //!< where frames for that address go
    TypeId socketFactory; //!< kind of stream socket that its programs use
    /// Told of each port that the guest serves, before it does; empty: nobody wants to know.
    std::function<void(uint16_t port)> publish;

  protected:
    void DoDispose() override;
};

/**
 * \ingroup vsnoop
 * \brief A physical machine: processors, the driver domain, guests, and how they do networking.
 *
 * It is aggregated to the driver domain's node, which has the NIC.
 */
class VirtualHost : public Object
{
  public:
    static TypeId GetTypeId();
    VirtualHost();
    ~VirtualHost() override;

    /**
     * Adds a physical processor.
     * \param scheduler makes a CpuScheduler
     * \returns the processor
     */
    Ptr<CpuScheduler> AddCpu(ObjectFactory scheduler);
    /**
     * Makes the driver domain.
     * \param node its node; this object is aggregated to it
     * \param nic its NIC, installed on the node
     * \param cpu where it runs
     * \param architecture how the guests do networking
     */
    void Setup(Ptr<Node> node,
               Ptr<EthernetDevice> nic,
               Ptr<CpuScheduler> cpu,
               Ptr<Architecture> architecture);
    /**
     * Adds a guest with a network.
     * \param cpu where it runs
     * \param vcpu makes its Vcpu
     * \param address its address
     * \returns the guest
     */
    Ptr<VirtualMachine> AddGuest(Ptr<CpuScheduler> cpu, ObjectFactory vcpu, Ipv4Address address);
    /**
     * Adds a guest that computes and has no network.
     * \param cpu where it runs
     * \returns its VCPU
     */
    Ptr<Vcpu> AddNeighbour(Ptr<CpuScheduler> cpu);

    /// \returns the driver domain
    Ptr<DriverDomain> GetDriverDomain() const;
    /// \returns the guests
    const std::vector<Ptr<VirtualMachine>>& GetGuests() const;
    /// \returns how the guests do networking
    Ptr<Architecture> GetArchitecture() const;
    /// \returns the node with the NIC
    Ptr<Node> GetNode() const;

    /**
     * Installs a device on a node, with TCP/IP and an address in 10.0.0.0/8.
     * \param node the node
     * \param device the device
     * \param address the address
     */
    static void InstallStack(Ptr<Node> node, Ptr<EthernetDevice> device, Ipv4Address address);
    /**
     * Tells a node the MAC address behind an IP address, so that no ARP is needed.
     * \param node the node
     * \param address IP address
     * \param mac MAC address
     */
    static void LearnNeighbour(Ptr<Node> node, Ipv4Address address, Mac48Address mac);

  protected:
    void DoInitialize() override;
    void DoDispose() override;

  private:
    Ptr<Node> m_node;
    Ptr<DriverDomain> m_domain;
    Ptr<Architecture> m_architecture;
    std::vector<Ptr<CpuScheduler>> m_cpus;
    std::vector<Ptr<VirtualMachine>> m_guests;
};

} // namespace ns3
