// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "ns3/event-id.h"
#include "ns3/object.h"
#include "ns3/packet.h"
#include "ns3/traced-callback.h"

#include <cstdio>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

struct vsnoop_engine;
struct vsnoop_guest_stats;
struct vsnoop_held;
struct vsnoop_ref;
struct vsnoop_verdict;

namespace ns3
{

class Vif;

/**
 * \ingroup vsnoop
 * \brief The acknowledgement offload of a driver domain: snoop-core itself, as a host sees it.
 *
 * All decisions are snoop-core's; this class turns packets into what it reads, does what it says,
 * keeps the frames in custody, and runs its timers in simulated time. With LogFile every call is
 * recorded; `vsnoop replay --log` makes the same calls again and compares.
 *
 * The invariants I1, I2, I4 and I7 of docs/ack-rules.md are checked after every call, and a run
 * that breaks one is ended (attribute CheckInvariants).
 */
class SnoopEngine : public Object
{
  public:
    /// Whom to acknowledge for, and on what ground.
    enum Policy
    {
        OFF,  //!< looks at nothing
        RING, //!< acknowledges what is in the guest's ring, as vSnoop in 2010
        HOLD  //!< acknowledges what it keeps until the guest confirms it
    };

    /// When to acknowledge.
    enum Engage
    {
        ALWAYS,
        AUTO //!< only for connections whose guest was measured to be slow
    };

    /**
     * TracedCallback signature of an early ACK.
     * \param vif whose guest it speaks for
     * \param ack acknowledgement number
     * \param edge right edge of the window shown
     */
    typedef void (*EarlyAckTracedCallback)(Ptr<Vif> vif, uint32_t ack, uint32_t edge);

    static TypeId GetTypeId();
    SnoopEngine();
    ~SnoopEngine() override;

    /**
     * Serves one more guest. All guests have to be added before the first frame.
     * \param vif the guest's interface
     * \returns the guest's number
     */
    uint16_t AddGuest(Vif* vif);
    /**
     * \param id number of the guest
     * \param frame from the network
     */
    void FromPeer(uint16_t id, Ptr<Packet> frame);
    /**
     * \param id number of the guest
     * \param frame that the guest sent
     * \returns the frame to send on; null if there is none
     */
    Ptr<Packet> FromGuest(uint16_t id, Ptr<Packet> frame);
    /// Sends what the engine owes, and asks when it wants to be called again: at the end of a batch
    /// of frames, so that one ACK speaks for all of it. The other calls do it themselves.
    void Settle();
    /// A poll begins that takes several batches; nothing is sent until all that began have ended.
    void BeginPoll();
    /// It ends: sends what the engine owes.
    void EndPoll();
    /**
     * The first pushed frame that waited is in the guest's ring.
     * \param id number of the guest
     * \returns false if its connection is gone, and it is not charged
     */
    bool Entered(uint16_t id);
    /**
     * The first pushed frame that waited was thrown away.
     * \param id number of the guest
     */
    void Unsent(uint16_t id);
    /**
     * The next frame in custody for the guest's ring.
     * \param id number of the guest
     * \param held set to what Consumed() has to be given; null: nothing
     * \returns the frame; null if none waits
     */
    Ptr<Packet> Next(uint16_t id, vsnoop_held*& held);
    /**
     * \param id number of the guest
     * \returns whether a frame in custody waits for the ring
     */
    bool HasNext(uint16_t id);
    /**
     * The guest took a frame out of its ring.
     * \param id number of the guest
     * \param held what Next() gave with it
     * \param memory what it was charged as a pushed frame, in bytes
     */
    void Consumed(uint16_t id, vsnoop_held* held, uint32_t memory);
    /**
     * The ring was taken away with a frame in it; for several frames, the last one first.
     * \param held what Next() gave with it
     */
    void Returned(vsnoop_held* held);
    /**
     * Stops promising for a guest, or goes on with it.
     * \param id number of the guest
     * \param on true: stop
     */
    void Quiesce(uint16_t id, bool on);
    /**
     * The guest leaves and its custody cannot follow: connections with a promise outstanding are
     * reset at both ends, the others forgotten. To be called while frames still pass.
     * \param id number of the guest
     */
    void Stop(uint16_t id);
    /**
     * \param id number of the guest
     * \returns what snoop-core counted for it
     */
    const vsnoop_guest_stats& GetStats(uint16_t id) const;
    /**
     * \param id number of the guest
     * \returns bytes promised and not confirmed
     */
    uint64_t GetOutstanding(uint16_t id) const;
    /**
     * \param id number of the guest
     * \returns most bytes of memory that were in custody at a time
     */
    uint64_t GetPeakHeld(uint16_t id) const;
    /**
     * \param id number of the guest
     * \returns early ACKs sent
     */
    uint64_t GetEarlyAcks(uint16_t id) const;
    /// \returns frames in custody
    uint64_t GetHeldFrames() const;
    /// \returns the policy
    Policy GetPolicy() const;

  protected:
    void DoDispose() override;

  private:
    struct Held;

    void MakeEngine();
    void FreeList(vsnoop_held* list);
    void Free(vsnoop_held* held);
    void Tick();
    void Check(const vsnoop_ref& flow, uint16_t id);
    uint64_t Now() const;
    static void Log(void* context, const uint8_t* bytes, uint32_t length);

    std::vector<Vif*> m_vifs;
    std::vector<std::deque<vsnoop_verdict>> m_pushed; //!< not in the ring yet, for each guest
    std::unique_ptr<uint8_t[]> m_memory;
    vsnoop_engine* m_engine{nullptr};
    EventId m_tick;
    uint64_t m_tickAt{0};
    bool m_settling{false};
    int m_polls{0}; //!< that have begun and not ended
    uint64_t m_heldFrames{0};
    std::FILE* m_log{nullptr};

    /// The farthest that a peer was shown.
    struct Shown
    {
        uint32_t ack;
        uint32_t edge;
    };

    std::unordered_map<uint64_t, Shown> m_shown; //!< by slot and generation

    Policy m_policy;
    Engage m_engage;
    bool m_earlySack;
    uint64_t m_budget;
    uint64_t m_flowBudget;
    uint64_t m_totalBudget;
    uint32_t m_flows;
    std::string m_logFile;
    bool m_check;
    TracedCallback<Ptr<Vif>, uint32_t, uint32_t> m_earlyAck;
};

} // namespace ns3
