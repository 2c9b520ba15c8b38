// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include "vcpu.h"

#include "cpu-scheduler.h"

#include "ns3/boolean.h"
#include "ns3/log.h"
#include "ns3/simulator.h"
#include "ns3/trace-source-accessor.h"
#include "ns3/uinteger.h"

namespace ns3
{

NS_LOG_COMPONENT_DEFINE("Vcpu");
NS_OBJECT_ENSURE_REGISTERED(Vcpu);

TypeId
Vcpu::GetTypeId()
{
    static TypeId tid =
        TypeId("ns3::Vcpu")
            .SetParent<Object>()
            .SetGroupName("Vsnoop")
            .AddConstructor<Vcpu>()
            .AddAttribute("Busy",
                          "Computes when there is no work, instead of blocking.",
                          BooleanValue(false),
                          MakeBooleanAccessor(&Vcpu::m_busy),
                          MakeBooleanChecker())
            .AddAttribute("Linger",
                          "Time without work before it blocks (not if busy).",
                          TimeValue(Time(0)),
                          MakeTimeAccessor(&Vcpu::m_linger),
                          MakeTimeChecker(Time(0)))
            .AddAttribute(
                "Weight",
                "Share of the processor against others (credit and credit2; Xen's default "
                "is 256).",
                UintegerValue(256),
                MakeUintegerAccessor(&Vcpu::m_weight),
                MakeUintegerChecker<uint32_t>(1, 65535))
            .AddAttribute(
                "Cap",
                "Most of the processor that it may have, in percent; 0: no limit (credit).",
                UintegerValue(0),
                MakeUintegerAccessor(&Vcpu::m_cap),
                MakeUintegerChecker<uint32_t>(0, 100))
            .AddTraceSource("State",
                            "It blocked, became runnable, or runs.",
                            MakeTraceSourceAccessor(&Vcpu::m_stateTrace),
                            "ns3::Vcpu::StateTracedCallback");
    return tid;
}

Vcpu::Vcpu() = default;
Vcpu::~Vcpu() = default;

void
Vcpu::DoDispose()
{
    m_working = false;
    m_block.Cancel();
    m_queue.clear();
    m_scheduler = nullptr;
    Object::DoDispose();
}

void
Vcpu::SetContext(uint32_t node)
{
    m_context = node;
}

void
Vcpu::Submit(Time cost, std::function<void()> work)
{
    m_queue.push_back({cost, std::move(work)});
    if (m_state == BLOCKED)
    {
        NS_ASSERT_MSG(m_scheduler, "a VCPU needs a processor: CpuScheduler::Add()");
        SetState(RUNNABLE);
        m_scheduler->Wake(this);
    }
    else if (m_state == RUNNING && !m_ending && m_queue.size() == 1)
    {
        Continue();
    }
}

void
Vcpu::Charge(Time cost)
{
    if (m_ending)
    {
        m_debt += cost;
        return;
    }
    if (m_state == RUNNING)
    {
        Interrupt();
    }
    m_queue.push_front({cost, nullptr});
    if (m_state == RUNNING)
    {
        Continue();
    }
}

void
Vcpu::OnRun()
{
    SetState(RUNNING);
    m_since = Simulator::Now();
    ++m_dispatches;
    if (!m_ending)
    {
        Continue();
    }
}

void
Vcpu::OnStop()
{
    Interrupt();
    m_cpuTime += Simulator::Now() - m_since;
    SetState(RUNNABLE);
}

void
Vcpu::Interrupt()
{
    m_block.Cancel();
    if (m_working)
    {
        m_working = false;
        const Time done = Simulator::Now() - m_resumed;
        m_queue.front().left -= done;
        m_workTime += done;
    }
}

void
Vcpu::Continue()
{
    m_block.Cancel();
    if (!m_queue.empty())
    {
        m_resumed = Simulator::Now();
        m_working = true;
        // Such an event cannot be cancelled.
        Simulator::ScheduleWithContext(m_context,
                                       m_queue.front().left,
                                       &Vcpu::Finish,
                                       Ptr<Vcpu>(this),
                                       ++m_run);
    }
    else if (!m_busy)
    {
        m_block = Simulator::Schedule(m_linger, &Vcpu::Block, this);
    }
}

void
Vcpu::Finish(uint64_t run)
{
    if (!m_working || run != m_run)
    {
        return;
    }
    m_working = false;
    m_workTime += m_queue.front().left;
    const std::function<void()> work = std::move(m_queue.front().work);
    m_queue.pop_front();
    if (work)
    {
        m_ending = true;
        work();
        m_ending = false;
        if (m_debt.IsStrictlyPositive())
        {
            m_queue.push_front({m_debt, nullptr});
            m_debt = Time(0);
        }
    }
    if (m_state == RUNNING)
    {
        Continue();
    }
}

void
Vcpu::Block()
{
    m_cpuTime += Simulator::Now() - m_since;
    SetState(BLOCKED);
    m_scheduler->Block(this);
}

void
Vcpu::SetState(State state)
{
    const State old = m_state;
    m_state = state;
    m_stateTrace(old, state);
}

bool
Vcpu::IsRunning() const
{
    return m_state == RUNNING;
}

Vcpu::State
Vcpu::GetState() const
{
    return m_state;
}

std::size_t
Vcpu::GetBacklog() const
{
    return m_queue.size();
}

Time
Vcpu::GetCpuTime() const
{
    return m_state == RUNNING ? m_cpuTime + Simulator::Now() - m_since : m_cpuTime;
}

Time
Vcpu::GetWorkTime() const
{
    return m_working ? m_workTime + Simulator::Now() - m_resumed : m_workTime;
}

uint64_t
Vcpu::GetDispatches() const
{
    return m_dispatches;
}

uint32_t
Vcpu::GetWeight() const
{
    return m_weight;
}

uint32_t
Vcpu::GetCap() const
{
    return m_cap;
}

bool
Vcpu::IsBusy() const
{
    return m_busy;
}

} // namespace ns3
