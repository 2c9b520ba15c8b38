// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "vcpu.h"

#include "ns3/event-id.h"
#include "ns3/object.h"

#include <deque>
#include <vector>

namespace ns3
{

/**
 * \ingroup vsnoop
 * \brief One physical processor and the policy by which its VCPUs share it.
 *
 * VCPUs are pinned: there is one scheduler for each processor, and nothing migrates. A subclass is
 * the policy; who runs, since when, what a switch costs and how short a run may be is here.
 * A processor of one's own is any scheduler with one VCPU.
 */
class CpuScheduler : public Object
{
  public:
    static TypeId GetTypeId();
    CpuScheduler();
    ~CpuScheduler() override;

    /**
     * Pins a VCPU to this processor.
     * \param vcpu the VCPU; a busy one is runnable from now on
     */
    void Add(Ptr<Vcpu> vcpu);

    /// \returns times that the processor changed over from one VCPU to another
    uint64_t GetSwitches() const;

  protected:
    void DoDispose() override;

    /**
     * A VCPU was pinned.
     * \param vcpu the VCPU
     */
    virtual void DoAdd(Vcpu* vcpu);
    /**
     * A VCPU is runnable and has to be queued.
     * \param vcpu the VCPU
     * \param woken true: it was blocked; false: it was running until now
     */
    virtual void DoEnqueue(Vcpu* vcpu, bool woken) = 0;
    /**
     * May a VCPU that woke take the processor from the one that runs?
     * \param woken the VCPU that woke (it is queued already)
     * \param running the one that runs
     * \returns true if so
     */
    virtual bool DoPreempt(Vcpu* woken, Vcpu* running) = 0;
    /**
     * Takes the VCPU that shall run next out of the queue.
     * \param slice set to the longest time it may run
     * \returns the VCPU; null if none is queued
     */
    virtual Vcpu* DoPick(Time& slice) = 0;
    /**
     * Books time on the processor. Called before any decision.
     * \param vcpu the VCPU that ran
     * \param time how long, since the last booking
     */
    virtual void DoAccount(Vcpu* vcpu, Time time);

    /// Asks for a decision as soon as what happens now is over.
    void Reschedule();
    /// Books the time of the VCPU that runs.
    void Account();
    /// \returns the VCPU that runs; null: idle
    Vcpu* GetCurrent() const;
    /// \returns since when it runs
    Time GetRunningSince() const;
    /// \returns the shortest run that a waking VCPU may cut off
    Time GetRateLimit() const;
    /// \returns all VCPUs pinned here
    const std::vector<Ptr<Vcpu>>& GetVcpus() const;

  private:
    friend class Vcpu;

    void Wake(Vcpu* vcpu);
    void Block(Vcpu* vcpu);
    void Decide();

    std::vector<Ptr<Vcpu>> m_vcpus;
    Vcpu* m_current{nullptr};
    Vcpu* m_last{nullptr};
    Time m_since;     //!< m_current runs
    Time m_accounted; //!< up to when its time is booked
    EventId m_decide;
    EventId m_sliceEnd;
    uint64_t m_switches{0};
    Time m_switchCost;
    Time m_rateLimit;
};

/**
 * \ingroup vsnoop
 * \brief First come, first served, for a slice each.
 *
 * The model of a long-slice scheduler without any help for I/O: a VCPU that wakes goes to the tail.
 * With Boost it goes to the head and takes the processor.
 */
class RoundRobinScheduler : public CpuScheduler
{
  public:
    static TypeId GetTypeId();

  protected:
    void DoEnqueue(Vcpu* vcpu, bool woken) override;
    bool DoPreempt(Vcpu* woken, Vcpu* running) override;
    Vcpu* DoPick(Time& slice) override;

  private:
    std::deque<Vcpu*> m_queue;
    Time m_slice;
    bool m_boost;
};

} // namespace ns3
