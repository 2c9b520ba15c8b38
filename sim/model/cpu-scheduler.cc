// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "cpu-scheduler.h"

#include "ns3/boolean.h"
#include "ns3/log.h"
#include "ns3/simulator.h"

namespace ns3
{

NS_LOG_COMPONENT_DEFINE("CpuScheduler");
NS_OBJECT_ENSURE_REGISTERED(CpuScheduler);
NS_OBJECT_ENSURE_REGISTERED(RoundRobinScheduler);

TypeId
CpuScheduler::GetTypeId()
{
    static TypeId tid =
        TypeId("ns3::CpuScheduler")
            .SetParent<Object>()
            .SetGroupName("Vsnoop")
            .AddAttribute("SwitchCost",
                          "Time lost when the processor changes over to another VCPU.",
                          TimeValue(MicroSeconds(2)),
                          MakeTimeAccessor(&CpuScheduler::m_switchCost),
                          MakeTimeChecker(Time(0)))
            .AddAttribute("RateLimit",
                          "Shortest run that a waking VCPU may cut off (Xen: sched_ratelimit_us).",
                          TimeValue(MilliSeconds(1)),
                          MakeTimeAccessor(&CpuScheduler::m_rateLimit),
                          MakeTimeChecker(Time(0)));
    return tid;
}

CpuScheduler::CpuScheduler() = default;
CpuScheduler::~CpuScheduler() = default;

void
CpuScheduler::DoDispose()
{
    m_decide.Cancel();
    m_sliceEnd.Cancel();
    for (const auto& vcpu : m_vcpus)
    {
        vcpu->Dispose();
    }
    m_vcpus.clear();
    m_current = nullptr;
    m_last = nullptr;
    Object::DoDispose();
}

void
CpuScheduler::Add(Ptr<Vcpu> vcpu)
{
    NS_ASSERT_MSG(!vcpu->m_scheduler, "a VCPU is pinned once");
    vcpu->m_scheduler = this;
    m_vcpus.push_back(vcpu);
    DoAdd(PeekPointer(vcpu));
    if (vcpu->IsBusy())
    {
        vcpu->SetState(Vcpu::RUNNABLE);
        DoEnqueue(PeekPointer(vcpu), false);
        if (!m_current)
        {
            Reschedule();
        }
    }
}

void
CpuScheduler::Wake(Vcpu* vcpu)
{
    Account();
    DoEnqueue(vcpu, true);
    if (!m_current)
    {
        Reschedule();
    }
    else if (DoPreempt(vcpu, m_current))
    {
        const Time earliest = m_since + m_rateLimit;
        if (earliest <= Simulator::Now())
        {
            Reschedule();
        }
        else if (m_decide.IsExpired())
        {
            m_decide =
                Simulator::Schedule(earliest - Simulator::Now(), &CpuScheduler::Decide, this);
        }
    }
}

void
CpuScheduler::Block(Vcpu* vcpu)
{
    NS_ASSERT(vcpu == m_current);
    Account();
    m_current = nullptr;
    Reschedule();
}

void
CpuScheduler::Reschedule()
{
    m_decide.Cancel();
    m_decide = Simulator::ScheduleNow(&CpuScheduler::Decide, this);
}

void
CpuScheduler::Account()
{
    if (m_current)
    {
        DoAccount(m_current, Simulator::Now() - m_accounted);
        m_accounted = Simulator::Now();
    }
}

void
CpuScheduler::Decide()
{
    m_decide.Cancel();
    m_sliceEnd.Cancel();
    Account();
    if (m_current)
    {
        DoEnqueue(m_current, false);
    }
    Time slice;
    Vcpu* next = DoPick(slice);
    if (next)
    {
        m_sliceEnd = Simulator::Schedule(slice, &CpuScheduler::Decide, this);
    }
    if (next == m_current)
    {
        return;
    }
    if (m_current)
    {
        m_current->OnStop();
    }
    m_current = next;
    if (!next)
    {
        return;
    }
    m_since = m_accounted = Simulator::Now();
    next->OnRun();
    if (next != m_last)
    {
        ++m_switches;
        if (m_switchCost.IsStrictlyPositive())
        {
            next->Charge(m_switchCost);
        }
    }
    m_last = next;
}

void
CpuScheduler::DoAdd(Vcpu*)
{
}

void
CpuScheduler::DoAccount(Vcpu*, Time)
{
}

Vcpu*
CpuScheduler::GetCurrent() const
{
    return m_current;
}

Time
CpuScheduler::GetRunningSince() const
{
    return m_since;
}

Time
CpuScheduler::GetRateLimit() const
{
    return m_rateLimit;
}

const std::vector<Ptr<Vcpu>>&
CpuScheduler::GetVcpus() const
{
    return m_vcpus;
}

uint64_t
CpuScheduler::GetSwitches() const
{
    return m_switches;
}

TypeId
RoundRobinScheduler::GetTypeId()
{
    static TypeId tid =
        TypeId("ns3::RoundRobinScheduler")
            .SetParent<CpuScheduler>()
            .SetGroupName("Vsnoop")
            .AddConstructor<RoundRobinScheduler>()
            .AddAttribute("Slice",
                          "Longest time that a VCPU keeps the processor while others "
                          "wait.",
                          TimeValue(MilliSeconds(30)),
                          MakeTimeAccessor(&RoundRobinScheduler::m_slice),
                          MakeTimeChecker(MicroSeconds(1)))
            .AddAttribute("Boost",
                          "A VCPU that wakes comes before all others.",
                          BooleanValue(false),
                          MakeBooleanAccessor(&RoundRobinScheduler::m_boost),
                          MakeBooleanChecker());
    return tid;
}

void
RoundRobinScheduler::DoEnqueue(Vcpu* vcpu, bool woken)
{
    if (woken && m_boost)
    {
        m_queue.push_front(vcpu);
    }
    else
    {
        m_queue.push_back(vcpu);
    }
}

bool
RoundRobinScheduler::DoPreempt(Vcpu*, Vcpu*)
{
    return m_boost;
}

Vcpu*
RoundRobinScheduler::DoPick(Time& slice)
{
    if (m_queue.empty())
    {
        return nullptr;
    }
    Vcpu* next = m_queue.front();
    m_queue.pop_front();
    slice = m_slice;
    return next;
}

} // namespace ns3
