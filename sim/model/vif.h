// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "ethernet-device.h"
#include "vcpu.h"

#include <deque>

struct vsnoop_held;

namespace ns3
{

class DriverDomain;
class SnoopEngine;
class VifDevice;

/**
 * \ingroup vsnoop
 * \brief The driver domain's half of a guest's network interface: netback.
 *
 * Towards the guest there is a ring with a number of slots, one a frame, that the guest empties
 * when it runs. In front of it a queue takes what does not fit, up to QueueBytes (Linux: half a
 * MiB; none in 2010); behind that frames are dropped. With a SnoopEngine that holds frames, those
 * wait in its custody and enter the ring as it empties.
 *
 * All of it is work of the driver domain and is charged to its VCPU.
 */
class Vif : public Object
{
  public:
    static TypeId GetTypeId();
    Vif();
    ~Vif() override;

    /**
     * \param domain the driver domain; its engine, if it has one, serves this guest
     * \param device the guest's half
     * \param port of the driver domain's bridge
     */
    void Attach(DriverDomain* domain, Ptr<VifDevice> device, uint32_t port);
    /**
     * Serves the guest with acknowledgement offload.
     * \param engine the engine
     * \param id number of the guest in it
     */
    void SetEngine(Ptr<SnoopEngine> engine, uint16_t id);

    /**
     * A frame from the bridge.
     * \param frame for the guest
     */
    void ToGuest(Ptr<Packet> frame);
    /**
     * A frame that nobody keeps: into the ring, or into the queue in front of it.
     * \param frame for the guest
     * \param memory what the engine charges for it once it is in the ring; 0: it is not the
     * engine's \returns false if it was dropped
     */
    bool Queue(Ptr<Packet> frame, uint32_t memory);
    /**
     * A frame that the engine sends on the guest's behalf.
     * \param frame for the peer
     */
    void Emit(Ptr<Packet> frame);
    /**
     * The guest put a frame into its transmit ring.
     * \param frame for the network
     */
    void FromGuest(Ptr<Packet> frame);
    /// \returns whether the guest has something to take
    bool HasFrame() const;
    /// \returns the next frame for the guest, which frees its slot
    Ptr<Packet> Pop();
    /// Puts into the ring what waits for it.
    void Kick();
    /**
     * The ring goes away, with what is in it and in front of it; no frame passes any more.
     * \param lost true: so does what the engine had put into it; false: that waits for the next
     * ring
     */
    void Detach(bool lost);
    /// There is a new ring.
    void Reattach();

    /// \returns full frames that find place in the ring and in the queue in front of it
    uint32_t GetRoom() const;
    /// \returns frames dropped for want of room
    uint64_t GetDrops() const;
    /// \returns most bytes that ring and queue held at a time
    uint64_t GetPeakBytes() const;
    /// \returns the engine; null if none
    Ptr<SnoopEngine> GetEngine() const;
    /// \returns number of the guest in the engine
    uint16_t GetEngineId() const;
    /// \returns the guest's half
    Ptr<VifDevice> GetDevice() const;

  protected:
    void DoDispose() override;

  private:
    /// A frame in the ring or in front of it.
    struct Entry
    {
        Ptr<Packet> frame;
        vsnoop_held* held; //!< in custody, too
        uint32_t memory;   //!< charged by the engine
    };

    void Push(const Entry& entry);
    /// Copies a frame into the ring from where it waited.
    void Enter(const Entry& entry);
    /// Moves the next frame into the ring.
    void Move();
    /// Forwards what the guest has sent, as many frames as one batch may have.
    void PollTx();
    Time GetTxCost(Ptr<const Packet> frame) const;
    Time GetRxCost(Ptr<const Packet> frame) const;

    DriverDomain* m_domain{nullptr};
    Ptr<VifDevice> m_device;
    uint32_t m_port{0};
    Ptr<SnoopEngine> m_engine;
    uint16_t m_id{0};
    std::deque<Entry> m_ring;
    std::deque<Entry> m_queue;
    uint32_t m_queueBytesUsed{0};
    uint64_t m_bytes{0}; //!< in ring and queue
    uint64_t m_peakBytes{0};
    uint64_t m_drops{0};
    bool m_moving{false};
    std::deque<Ptr<Packet>> m_txRing; //!< sent by the guest, not forwarded yet
    bool m_txPolling{false};
    int m_txPolled{0}; //!< frames that this poll has taken
    bool m_attached{true};

    uint32_t m_ringSlots;
    uint32_t m_queueBytes;
    Time m_rxCost;
    double m_rxNsPerByte;
    Time m_txCost;
    double m_txNsPerByte;
    TracedCallback<Ptr<const Packet>> m_dropTrace;
};

/**
 * \ingroup vsnoop
 * \brief The guest's half of its network interface: netfront.
 *
 * Receiving and sending costs the guest's VCPU time, and happens only while it runs. Sent frames go
 * through a transmit ring; those that find it full wait in the guest.
 */
class VifDevice : public EthernetDevice
{
  public:
    static TypeId GetTypeId();
    VifDevice();
    ~VifDevice() override;

    /**
     * \param vif the driver domain's half
     * \param vcpu who executes this half
     */
    void Attach(Ptr<Vif> vif, Ptr<Vcpu> vcpu);
    bool SendFrame(Ptr<Packet> frame) override;
    /// The ring has something to take.
    void Notify();
    /// The driver domain took a frame out of the transmit ring.
    void TxDone();
    /// \returns who executes this half
    Ptr<Vcpu> GetVcpu() const;

  protected:
    void DoDispose() override;

  private:
    void Poll();
    void Transmit(Ptr<Packet> frame);
    void Refill();

    Ptr<Vif> m_vif;
    Ptr<Vcpu> m_vcpu;
    bool m_polling{false};
    std::deque<Ptr<Packet>> m_txQueue;
    uint32_t m_txUsed{0};
    bool m_refilling{false};

    Time m_rxCost;
    double m_rxNsPerByte;
    Time m_txCost;
    double m_txNsPerByte;
    Time m_interruptCost;
    uint32_t m_txRingSlots;
    uint32_t m_txQueueFrames;
};

} // namespace ns3
