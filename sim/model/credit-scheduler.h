// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "cpu-scheduler.h"

#include <map>

namespace ns3
{

/**
 * \ingroup vsnoop
 * \brief Xen's credit scheduler on one processor (xen/common/sched/credit.c).
 *
 * Credits are burned while running and earned every slice by weight; a VCPU with credits is UNDER,
 * one without OVER; one that wakes while UNDER is BOOSTed before all others until a tick finds it
 * running. Queues are by priority, then first come, first served. A capped VCPU that has overspent
 * is parked until it has earned it back.
 *
 * Not modelled: migration between processors, yielding.
 */
class CreditScheduler : public CpuScheduler
{
  public:
    static TypeId GetTypeId();
    CreditScheduler();

  protected:
    void DoInitialize() override;
    void DoDispose() override;
    void DoAdd(Vcpu* vcpu) override;
    void DoEnqueue(Vcpu* vcpu, bool woken) override;
    bool DoPreempt(Vcpu* woken, Vcpu* running) override;
    Vcpu* DoPick(Time& slice) override;
    void DoAccount(Vcpu* vcpu, Time time) override;

  private:
    /// Better is greater.
    enum Priority
    {
        OVER,
        UNDER,
        BOOST
    };

    /// What is known of a VCPU.
    struct Data
    {
        double credit{0}; //!< one is 100 us on the processor
        Priority priority{UNDER};
        bool active{false}; //!< earns credits
        bool parked{false};
        bool waiting{false}; //!< runnable and not running
    };

    void Tick();
    /// Hands out credits for a slice.
    void Earn();
    void Insert(Vcpu* vcpu);

    std::map<Vcpu*, Data> m_data;
    std::deque<Vcpu*> m_queue; //!< best priority first
    EventId m_tick;
    uint32_t m_ticks{0};
    Time m_slice;
    uint32_t m_creditCpus;
};

/**
 * \ingroup vsnoop
 * \brief Xen's credit2 scheduler on one processor (xen/common/sched/credit2.c).
 *
 * The VCPU with most credit runs until it has as little as the next one; when the best has none,
 * all get 10 ms worth again. One that wakes takes the processor if it has more credit.
 *
 * Not modelled: migration and load balancing, caps, soft affinity.
 */
class Credit2Scheduler : public CpuScheduler
{
  public:
    static TypeId GetTypeId();

  protected:
    void DoAdd(Vcpu* vcpu) override;
    void DoEnqueue(Vcpu* vcpu, bool woken) override;
    bool DoPreempt(Vcpu* woken, Vcpu* running) override;
    Vcpu* DoPick(Time& slice) override;
    void DoAccount(Vcpu* vcpu, Time time) override;

  private:
    std::map<Vcpu*, int64_t> m_credit; //!< nanoseconds, at the greatest weight
    std::deque<Vcpu*> m_queue;         //!< most credit first
    uint32_t m_maxWeight{1};
};

/**
 * \ingroup vsnoop
 * \brief A budget in each period, earliest deadline first, as Xen's RTDS scheduler.
 *
 * All VCPUs have the same budget and period. One that has used its budget waits for its next
 * period, or, with ExtraTime, runs when nobody with a budget wants to.
 */
class RtdsScheduler : public CpuScheduler
{
  public:
    static TypeId GetTypeId();

  protected:
    void DoAdd(Vcpu* vcpu) override;
    void DoEnqueue(Vcpu* vcpu, bool woken) override;
    bool DoPreempt(Vcpu* woken, Vcpu* running) override;
    Vcpu* DoPick(Time& slice) override;
    void DoAccount(Vcpu* vcpu, Time time) override;
    void DoDispose() override;

  private:
    /// What is known of a VCPU.
    struct Data
    {
        Time budget;
        Time deadline; //!< end of its period
        bool waiting{false};
        EventId replenish;
    };

    void Replenish(Vcpu* vcpu);
    /// \returns whether a comes before b
    bool Before(const Data& a, const Data& b) const;

    std::map<Vcpu*, Data> m_data;
    std::vector<Vcpu*> m_order; //!< as added, so that equal ones are decided the same in each run
    Time m_period;
    Time m_budget;
    bool m_extraTime;
};

} // namespace ns3
