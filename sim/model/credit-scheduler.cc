// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "credit-scheduler.h"

#include "ns3/boolean.h"
#include "ns3/log.h"
#include "ns3/simulator.h"
#include "ns3/uinteger.h"

#include <algorithm>
#include <cmath>

namespace ns3
{

NS_LOG_COMPONENT_DEFINE("CreditScheduler");
NS_OBJECT_ENSURE_REGISTERED(CreditScheduler);
NS_OBJECT_ENSURE_REGISTERED(Credit2Scheduler);
NS_OBJECT_ENSURE_REGISTERED(RtdsScheduler);

namespace
{

constexpr uint32_t TICKS_PER_SLICE = 3;
constexpr double CREDITS_PER_SECOND = 10000;
const Time SOFTIRQ = MicroSeconds(1);

// credit2, in nanoseconds
constexpr int64_t CREDIT2_INIT = 10000000;
constexpr int64_t CREDIT2_MIN_TIMER = 500000;
constexpr int64_t CREDIT2_CARRYOVER = CREDIT2_MIN_TIMER;

} // namespace

// ---- credit

TypeId
CreditScheduler::GetTypeId()
{
    static TypeId tid =
        TypeId("ns3::CreditScheduler")
            .SetParent<CpuScheduler>()
            .SetGroupName("Vsnoop")
            .AddConstructor<CreditScheduler>()
            .AddAttribute("Slice",
                          "Longest run while others wait; a third of it is a tick "
                          "(sched_credit_tslice_ms).",
                          TimeValue(MilliSeconds(30)),
                          MakeTimeAccessor(&CreditScheduler::m_slice),
                          MakeTimeChecker(MilliSeconds(1), Seconds(1)))
            .AddAttribute(
                "CreditCpus",
                "Processors whose credits are shared out among the VCPUs of this one. Xen "
                "counts all of the pool, however VCPUs are pinned: the driver domain's "
                "idle one, too.",
                UintegerValue(2),
                MakeUintegerAccessor(&CreditScheduler::m_creditCpus),
                MakeUintegerChecker<uint32_t>(1));
    return tid;
}

CreditScheduler::CreditScheduler() = default;

void
CreditScheduler::DoInitialize()
{
    m_tick = Simulator::Schedule(m_slice / TICKS_PER_SLICE, &CreditScheduler::Tick, this);
    CpuScheduler::DoInitialize();
}

void
CreditScheduler::DoDispose()
{
    m_tick.Cancel();
    m_queue.clear();
    m_data.clear();
    CpuScheduler::DoDispose();
}

void
CreditScheduler::DoAdd(Vcpu* vcpu)
{
    m_data[vcpu] = Data();
}

void
CreditScheduler::DoAccount(Vcpu* vcpu, Time time)
{
    m_data[vcpu].credit -= time.GetSeconds() * CREDITS_PER_SECOND;
}

void
CreditScheduler::Insert(Vcpu* vcpu)
{
    const Priority priority = m_data[vcpu].priority;
    const auto behind = std::find_if(m_queue.begin(), m_queue.end(), [&](Vcpu* other) {
        return m_data[other].priority < priority;
    });
    m_queue.insert(behind, vcpu);
}

void
CreditScheduler::DoEnqueue(Vcpu* vcpu, bool woken)
{
    Data& data = m_data[vcpu];
    data.waiting = true;
    if (data.parked)
    {
        return;
    }
    if (woken && data.priority == UNDER)
    {
        data.priority = BOOST;
    }
    Insert(vcpu);
}

bool
CreditScheduler::DoPreempt(Vcpu* woken, Vcpu* running)
{
    const Data& data = m_data[woken];
    return !data.parked && data.priority > m_data[running].priority;
}

Vcpu*
CreditScheduler::DoPick(Time& slice)
{
    if (m_queue.empty())
    {
        return nullptr;
    }
    Vcpu* next = m_queue.front();
    m_queue.pop_front();
    m_data[next].waiting = false;
    // Xen decides in a softirq, after the timers of that moment, the accounting among them.
    slice = m_slice + SOFTIRQ;
    return next;
}

void
CreditScheduler::Tick()
{
    m_tick = Simulator::Schedule(m_slice / TICKS_PER_SLICE, &CreditScheduler::Tick, this);
    // Xen's accounting runs by a timer of its own, on another processor, and knows only of the time
    // that ticks and decisions have booked: up to a tick less than was used. It shows with caps.
    if (++m_ticks % TICKS_PER_SLICE == 0)
    {
        Earn();
    }
    Account();
    if (GetCurrent())
    {
        Data& data = m_data[GetCurrent()];
        if (data.priority == BOOST)
        {
            data.priority = UNDER;
        }
        data.active = true;
    }
}

void
CreditScheduler::Earn()
{
    const double perSlice = m_slice.GetSeconds() * CREDITS_PER_SECOND;
    double weights = 0;
    for (const auto& vcpu : GetVcpus())
    {
        weights += m_data[PeekPointer(vcpu)].active ? vcpu->GetWeight() : 0;
    }
    bool decide = false;
    for (const auto& pointer : GetVcpus())
    {
        Vcpu* vcpu = PeekPointer(pointer);
        Data& data = m_data[vcpu];
        if (!data.active)
        {
            continue;
        }
        const double cap = std::ceil(vcpu->GetCap() * perSlice / 100);
        const double peak = vcpu->GetCap() ? std::min(cap, perSlice) : perSlice;
        data.credit += std::min(peak, perSlice * m_creditCpus * vcpu->GetWeight() / weights);
        if (data.credit < 0)
        {
            data.priority = OVER;
            if (vcpu->GetCap() && data.credit < -cap && !data.parked)
            {
                data.parked = true;
                m_queue.erase(std::remove(m_queue.begin(), m_queue.end(), vcpu), m_queue.end());
                decide |= vcpu == GetCurrent();
            }
            data.credit = std::max(data.credit, -perSlice);
        }
        else
        {
            data.priority = UNDER;
            if (data.parked)
            {
                data.parked = false;
                if (data.waiting)
                {
                    Insert(vcpu);
                    decide |= !GetCurrent() || DoPreempt(vcpu, GetCurrent());
                }
            }
            if (data.credit > perSlice)
            {
                data.active = false;
                data.credit /= 2;
            }
        }
    }
    std::stable_sort(m_queue.begin(), m_queue.end(), [this](Vcpu* a, Vcpu* b) {
        return m_data[a].priority > OVER && m_data[b].priority == OVER;
    });
    if (decide)
    {
        Reschedule();
    }
}

// ---- credit2

TypeId
Credit2Scheduler::GetTypeId()
{
    static TypeId tid = TypeId("ns3::Credit2Scheduler")
                            .SetParent<CpuScheduler>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<Credit2Scheduler>();
    return tid;
}

void
Credit2Scheduler::DoAdd(Vcpu* vcpu)
{
    m_credit[vcpu] = CREDIT2_INIT;
    m_maxWeight = std::max(m_maxWeight, vcpu->GetWeight());
}

void
Credit2Scheduler::DoAccount(Vcpu* vcpu, Time time)
{
    m_credit[vcpu] -= time.GetNanoSeconds() * m_maxWeight / vcpu->GetWeight();
}

void
Credit2Scheduler::DoEnqueue(Vcpu* vcpu, bool)
{
    const auto behind = std::find_if(m_queue.begin(), m_queue.end(), [&](Vcpu* other) {
        return m_credit[other] < m_credit[vcpu];
    });
    m_queue.insert(behind, vcpu);
}

bool
Credit2Scheduler::DoPreempt(Vcpu* woken, Vcpu* running)
{
    return m_credit[woken] > m_credit[running];
}

Vcpu*
Credit2Scheduler::DoPick(Time& slice)
{
    if (m_queue.empty())
    {
        return nullptr;
    }
    Vcpu* next = m_queue.front();
    const Time ran = Simulator::Now() - GetRunningSince();
    if (GetCurrent() && ran < GetRateLimit())
    {
        next = GetCurrent();
    }
    m_queue.erase(std::find(m_queue.begin(), m_queue.end(), next));
    if (m_credit[next] <= 0)
    {
        const int64_t times = 1 + std::max<int64_t>(0, -m_credit[next] / CREDIT2_INIT);
        for (auto& [vcpu, credit] : m_credit)
        {
            credit = std::min(credit + times * CREDIT2_INIT, CREDIT2_INIT + CREDIT2_CARRYOVER);
        }
    }
    int64_t shortest = CREDIT2_MIN_TIMER;
    const Time since = next == GetCurrent() ? ran : Time(0);
    shortest = std::max(shortest, (GetRateLimit() - since).GetNanoSeconds());
    int64_t run = m_credit[next];
    if (!m_queue.empty() && m_credit[m_queue.front()] > 0)
    {
        run -= m_credit[m_queue.front()];
    }
    run = run > 0 ? run * next->GetWeight() / m_maxWeight : 0;
    slice = NanoSeconds(std::max(shortest, std::min(run, CREDIT2_INIT)));
    return next;
}

// ---- RTDS

TypeId
RtdsScheduler::GetTypeId()
{
    static TypeId tid = TypeId("ns3::RtdsScheduler")
                            .SetParent<CpuScheduler>()
                            .SetGroupName("Vsnoop")
                            .AddConstructor<RtdsScheduler>()
                            .AddAttribute("Period",
                                          "Time in which each VCPU has its budget once.",
                                          TimeValue(MilliSeconds(10)),
                                          MakeTimeAccessor(&RtdsScheduler::m_period),
                                          MakeTimeChecker(MicroSeconds(10)))
                            .AddAttribute("Budget",
                                          "Processor time that each VCPU has in a period.",
                                          TimeValue(MicroSeconds(2500)),
                                          MakeTimeAccessor(&RtdsScheduler::m_budget),
                                          MakeTimeChecker(MicroSeconds(10)))
                            .AddAttribute("ExtraTime",
                                          "Time that nobody has a budget for is given away, too.",
                                          BooleanValue(true),
                                          MakeBooleanAccessor(&RtdsScheduler::m_extraTime),
                                          MakeBooleanChecker());
    return tid;
}

void
RtdsScheduler::DoAdd(Vcpu* vcpu)
{
    m_order.push_back(vcpu);
    m_data[vcpu] = Data();
    m_data[vcpu].budget = m_budget;
    m_data[vcpu].deadline = Simulator::Now() + m_period;
    m_data[vcpu].replenish = Simulator::Schedule(m_period, &RtdsScheduler::Replenish, this, vcpu);
}

void
RtdsScheduler::DoDispose()
{
    for (auto& [vcpu, data] : m_data)
    {
        data.replenish.Cancel();
    }
    m_data.clear();
    CpuScheduler::DoDispose();
}

void
RtdsScheduler::Replenish(Vcpu* vcpu)
{
    Account();
    Data& data = m_data[vcpu];
    data.budget = m_budget;
    data.deadline = Simulator::Now() + m_period;
    data.replenish = Simulator::Schedule(m_period, &RtdsScheduler::Replenish, this, vcpu);
    Reschedule();
}

void
RtdsScheduler::DoAccount(Vcpu* vcpu, Time time)
{
    Time& budget = m_data[vcpu].budget;
    budget = std::max(Time(0), budget - time);
}

void
RtdsScheduler::DoEnqueue(Vcpu* vcpu, bool)
{
    m_data[vcpu].waiting = true;
}

bool
RtdsScheduler::Before(const Data& a, const Data& b) const
{
    if (a.budget.IsZero() != b.budget.IsZero())
    {
        return b.budget.IsZero();
    }
    return a.deadline < b.deadline;
}

bool
RtdsScheduler::DoPreempt(Vcpu* woken, Vcpu* running)
{
    return Before(m_data[woken], m_data[running]);
}

Vcpu*
RtdsScheduler::DoPick(Time& slice)
{
    Vcpu* best = nullptr;
    for (Vcpu* vcpu : m_order)
    {
        const Data& data = m_data[vcpu];
        if (data.waiting && (m_extraTime || data.budget.IsStrictlyPositive()) &&
            (!best || Before(data, m_data[best])))
        {
            best = vcpu;
        }
    }
    if (best)
    {
        Data& data = m_data[best];
        data.waiting = false;
        slice = data.budget.IsStrictlyPositive() ? data.budget : m_period;
    }
    return best;
}

} // namespace ns3
