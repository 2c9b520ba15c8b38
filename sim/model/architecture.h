// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "virtual-host.h"

#include "ns3/object-factory.h"
#include "ns3/object.h"

namespace ns3
{

/**
 * \ingroup vsnoop
 * \brief How guests do networking: where TCP ends, who acknowledges, what it costs whom.
 *
 * A subclass is a system from the literature. What its paper gives and what is assumed stands in
 * doc/vsnoop.rst, and in the class's own text.
 */
class Architecture : public Object
{
  public:
    static TypeId GetTypeId();
    /**
     * Prepares a host, before any guest is added.
     * \param host the host; it has a driver domain already
     */
    virtual void SetupHost(VirtualHost& host);
    /**
     * Gives a guest its network.
     * \param host the host
     * \param guest has node, VCPU and address; the rest is filled in here
     */
    virtual void AddGuest(VirtualHost& host, VirtualMachine& guest) = 0;

  protected:
    /**
     * Gives a guest a network interface and a TCP/IP stack of its own.
     * \param host the host
     * \param guest the guest
     * \param backend makes the Vif
     * \param frontend makes the VifDevice
     */
    void AddInterface(VirtualHost& host,
                      VirtualMachine& guest,
                      const ObjectFactory& backend,
                      const ObjectFactory& frontend);
};

/**
 * \ingroup vsnoop
 * \brief (a) Xen's split driver and nothing else: netback copies each frame into the guest's ring.
 */
class NetbackArchitecture : public Architecture
{
  public:
    static TypeId GetTypeId();
    void AddGuest(VirtualHost& host, VirtualMachine& guest) override;

  private:
    uint32_t m_queueBytes;
};

/**
 * \ingroup vsnoop
 * \brief (b) vSnoop as in 2010: what is in the guest's ring is acknowledged, nothing is kept.
 */
class RingArchitecture : public NetbackArchitecture
{
  public:
    static TypeId GetTypeId();
    void SetupHost(VirtualHost& host) override;
};

/**
 * \ingroup vsnoop
 * \brief (c) This project: what is acknowledged is kept until the guest confirms it.
 *
 * Everything else of it is an attribute of SnoopEngine.
 */
class HoldArchitecture : public Architecture
{
  public:
    static TypeId GetTypeId();
    void SetupHost(VirtualHost& host) override;
    void AddGuest(VirtualHost& host, VirtualMachine& guest) override;
};

/**
 * \ingroup vsnoop
 * \brief (d) SETH (Jang et al. 2012): buffers shared for good, no grant operations.
 *
 * TCP stays in the guest. The backend writes into pages that the guest has shared beforehand: two
 * zones of 4 MB, 1024 pages each, hence RingSlots. Costs of both halves are such that CPU time for
 * a byte stands to netback's and to a native host's as in the paper's tables.
 */
class SethArchitecture : public Architecture
{
  public:
    static TypeId GetTypeId();
    void AddGuest(VirtualHost& host, VirtualMachine& guest) override;

  private:
    uint32_t m_ringSlots;
    Time m_backendRxCost;
    Time m_backendTxCost;
    Time m_guestRxCost;
    Time m_guestTxCost;
    Time m_guestInterruptCost;
    double m_guestTxNsPerByte;
};

/**
 * \ingroup vsnoop
 * \brief No virtualisation: the program runs where the NIC is. What SETH's tables compare with.
 *
 * It has the driver domain's processor; the guest's VCPU stays idle. One guest a host.
 */
class NativeArchitecture : public Architecture
{
  public:
    static TypeId GetTypeId();
    void AddGuest(VirtualHost& host, VirtualMachine& guest) override;

  private:
    Time m_rxCost;
    Time m_txCost;
    Time m_interruptCost;
    double m_rxNsPerByte;
    double m_txNsPerByte;
};

/**
 * \ingroup vsnoop
 * \brief TCP ends in the host; the guest's sockets are a thin layer. Base of (e), (f), (g).
 *
 * One stack serves all guests and has the addresses of all; its work is the driver domain's.
 */
class HostTcpArchitecture : public Architecture
{
  public:
    static TypeId GetTypeId();
    void SetupHost(VirtualHost& host) override;
    void AddGuest(VirtualHost& host, VirtualMachine& guest) override;

  protected:
    void DoDispose() override;

    Ptr<Node> m_stack;       //!< the host's TCP/IP
    Mac48Address m_stackMac; //!< its MAC address
    Ipv4Address m_stackAddress;

  private:
    Time m_tcpRxCost;
    Time m_tcpTxCost;
    Time m_callCost;
    Time m_hostCallCost;
    Time m_eventCost;
    double m_nsPerByte;
    double m_hostNsPerByte;
};

/**
 * \ingroup vsnoop
 * \brief (e) Socket outsourcing (Eiraku et al. 2009): a Linux guest's socket layer calls the
 * host's.
 *
 * Shared memory, event queues and VM-specific calls; between VMs of a host the host's loopback.
 */
class OutsourcingArchitecture : public HostTcpArchitecture
{
  public:
    static TypeId GetTypeId();
};

/**
 * \ingroup vsnoop
 * \brief (f) Linsock (Koh et al. 2009): the same for a fully virtualised Windows guest on KVM.
 *
 * A call leaves the guest through the hypervisor, and a Winsock provider makes it.
 */
class LinsockArchitecture : public HostTcpArchitecture
{
  public:
    static TypeId GetTypeId();

  protected:
    void NotifyConstructionCompleted() override;
};

/**
 * \ingroup vsnoop
 * \brief What Linsock is compared with: Windows with a paravirtual device, emulated by a process.
 */
class WindowsDeviceArchitecture : public Architecture
{
  public:
    static TypeId GetTypeId();
    void AddGuest(VirtualHost& host, VirtualMachine& guest) override;

  private:
    Time m_deviceCost;
    Time m_guestCost;
};

/**
 * \ingroup vsnoop
 * \brief (g) Leulo (Nordal et al. 2012): all TCP below the socket interface, in the hypervisor.
 *
 * A call is a hypercall; there is no other domain to be told of it.
 */
class LeuloArchitecture : public HostTcpArchitecture
{
  public:
    static TypeId GetTypeId();

  protected:
    void NotifyConstructionCompleted() override;
};

/**
 * \ingroup vsnoop
 * \brief (h) A split-TCP proxy in the driver domain, in front of plain netback.
 *
 * Peers connect to an address of the host's stack; the proxy opens a second connection to the
 * guest, which has an inner address. What the guest itself opens does not go through the proxy.
 */
class SplitProxyArchitecture : public HostTcpArchitecture
{
  public:
    static TypeId GetTypeId();
    void AddGuest(VirtualHost& host, VirtualMachine& guest) override;

  protected:
    void DoDispose() override;

  private:
    Ptr<Object> m_proxy;
};

} // namespace ns3
