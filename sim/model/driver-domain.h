// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "cpu-scheduler.h"
#include "ethernet-device.h"
#include "snoop-engine.h"
#include "vif.h"

#include <vector>

namespace ns3
{

/**
 * \ingroup vsnoop
 * \brief The domain that owns the NIC: bridge, netback and acknowledgement offload of one host.
 *
 * Everything it does is work on its own VCPU, first come, first served. The NIC interrupts a little
 * after a frame came, so that frames come in batches, and drops what finds its ring full.
 */
class DriverDomain : public Object
{
  public:
    /// Frames that one poll takes, of the NIC's or of a guest's. What it takes is done at its
    /// beginning and paid for until its end, so a batch is kept short.
    static constexpr int BATCH = 16;

    static TypeId GetTypeId();
    DriverDomain();
    ~DriverDomain() override;

    /**
     * \param vcpu who executes the driver domain
     * \param nic its port to the network
     */
    void Setup(Ptr<Vcpu> vcpu, Ptr<EthernetDevice> nic);
    /**
     * Serves guests that are added from now on with acknowledgement offload.
     * \param engine the engine; null: no more
     */
    void SetEngine(Ptr<SnoopEngine> engine);
    /**
     * Gives a guest a network interface.
     * \param vif the driver domain's half
     * \param device the guest's half, installed on its node
     * \param vcpu the guest's
     */
    void AddVif(Ptr<Vif> vif, Ptr<VifDevice> device, Ptr<Vcpu> vcpu);

    /// \returns who executes the driver domain
    Ptr<Vcpu> GetVcpu() const;
    /// \returns the interfaces, in the order they were added
    const std::vector<Ptr<Vif>>& GetVifs() const;
    /// \returns the offload; null if there is none
    Ptr<SnoopEngine> GetEngine() const;
    /// \returns frames that the NIC dropped because the domain could not keep up
    uint64_t GetNicDrops() const;

  protected:
    void DoDispose() override;

  private:
    friend class Vif;

    void FromNic(Ptr<Packet> frame);
    /// The driver's poll: forwards what the NIC has, as many frames as one batch may have.
    void Poll();
    /// Forwards a frame that came in through a port, at its cost.
    void Forward(uint32_t port, Ptr<Packet> frame);

    Ptr<Vcpu> m_vcpu;
    Ptr<EthernetDevice> m_nic;
    Ptr<EthernetBridge> m_bridge;
    Ptr<SnoopEngine> m_engine;
    std::vector<Ptr<Vif>> m_vifs;
    uint32_t m_nicPort{0};
    std::deque<Ptr<Packet>> m_nicRing;
    bool m_polling{false};
    EventId m_interrupt;
    uint64_t m_nicDrops{0};

    Time m_moderation;
    Time m_interruptCost;
    Time m_nicRxCost;
    Time m_nicTxCost;
    Time m_bridgeCost;
    Time m_snoopCost;
    Time m_emitCost;
    uint32_t m_nicSlots;
};

} // namespace ns3
