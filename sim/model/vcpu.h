// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "ns3/event-id.h"
#include "ns3/nstime.h"
#include "ns3/object.h"
#include "ns3/traced-callback.h"

#include <deque>
#include <functional>

namespace ns3
{

class CpuScheduler;

/**
 * \ingroup vsnoop
 * \brief A virtual processor: work that is done, in order, while a CpuScheduler lets it run.
 *
 * Guests, and the driver domain itself, execute everything they do on one of these: nothing that
 * costs processor time is free. A VCPU has a queue of pieces of work, each with the time it takes.
 * Time off the processor stops the piece at hand and is not lost work.
 *
 * Without work a guest is either busy (it computes, and never gives the processor up) or it blocks,
 * at once or after having lingered a little (attribute Linger: Linux's idle loop polls before it
 * halts). How long it lingers decides much of what a scheduler does to a guest's network.
 */
class Vcpu : public Object
{
  public:
    /// What the scheduler knows of a VCPU.
    enum State
    {
        BLOCKED,  //!< no work
        RUNNABLE, //!< waits for the processor
        RUNNING
    };

    /**
     * TracedCallback signature of a change of state.
     * \param old the state it was in
     * \param now the state it is in
     */
    typedef void (*StateTracedCallback)(State old, State now);

    static TypeId GetTypeId();
    Vcpu();
    ~Vcpu() override;

    /**
     * Work is done in the context of this node, as ns-3 wants it of what hands it packets
     * (Node::ReceiveFromDevice asserts it).
     * \param node number of the node that it executes
     */
    void SetContext(uint32_t node);

    /**
     * Queues a piece of work and wakes the VCPU if it is blocked.
     * \param cost processor time it takes
     * \param work what happens at its end; may be empty
     */
    void Submit(Time cost, std::function<void()> work);

    /**
     * Adds processor time to the piece of work that is ending, or, outside of one, a piece that
     * comes before all others. What was to follow is delayed by it.
     * \param cost processor time
     */
    void Charge(Time cost);

    /// \returns whether the processor is executing this VCPU now
    bool IsRunning() const;
    /// \returns the state
    State GetState() const;
    /// \returns pieces of work that wait or are being done
    std::size_t GetBacklog() const;
    /// \returns time on the processor so far: work, computing and lingering
    Time GetCpuTime() const;
    /// \returns time of work done so far
    Time GetWorkTime() const;
    /// \returns times that it was put on the processor
    uint64_t GetDispatches() const;
    /// \returns weight among the VCPUs of its processor
    uint32_t GetWeight() const;
    /// \returns most of the processor that it may have, in percent; 0: no limit
    uint32_t GetCap() const;
    /// \returns whether it computes when there is no work
    bool IsBusy() const;

  protected:
    void DoDispose() override;

  private:
    friend class CpuScheduler;

    /// A piece of work.
    struct Item
    {
        Time left;                  //!< processor time still to spend
        std::function<void()> work; //!< what happens then
    };

    /// The processor begins to execute this VCPU.
    void OnRun();
    /// The processor is taken away.
    void OnStop();
    /// Goes on with the first piece of work, or with waiting for one.
    void Continue();
    /**
     * The first piece of work is done.
     * \param run which was begun as this one; something else happened if it is not the last
     */
    void Finish(uint64_t run);
    /// Nothing to do for as long as it lingers.
    void Block();
    /// Books the time since the first piece of work was resumed.
    void Interrupt();
    void SetState(State state);

    CpuScheduler* m_scheduler{nullptr}; //!< owned by the driver domain, as are VCPUs
    State m_state{BLOCKED};
    std::deque<Item> m_queue;
    uint32_t m_context{0xffffffff}; //!< Simulator::NO_CONTEXT
    uint64_t m_run{0};              //!< times that work was begun or resumed
    bool m_working{false};          //!< Finish(m_run) will end the first piece of work
    EventId m_block;                //!< end of lingering
    Time m_resumed;                 //!< since when the first piece of work is being done
    Time m_since;                   //!< since when it runs
    Time m_cpuTime;                 //!< up to m_since
    Time m_workTime;                //!< of what is done
    Time m_debt;                    //!< charged by the piece of work that is ending
    bool m_ending{false};
    uint64_t m_dispatches{0};

    bool m_busy;
    Time m_linger;
    uint32_t m_weight;
    uint32_t m_cap;
    TracedCallback<State, State> m_stateTrace;
};

} // namespace ns3
