// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// A bulk-synchronous program of several ranks, each a guest on a host of its own that it shares
// with computing neighbours: time of a ping-pong, an all-to-all and an all-reduce (recursive
// doubling), by message size.
//
//   vsnoop-mpi --architectures=netback,hold --ranks=4 --operations=pingpong,alltoall,allreduce
#include "experiment.h"

#include "ns3/inet-socket-address.h"
#include "ns3/ipv4.h"
#include "ns3/message-stream.h"
#include "ns3/simulator.h"

#include <algorithm>
#include <map>

using namespace ns3;

namespace
{

/// The ranks of one run, and what they still wait for.
class World
{
  public:
    World(TestbedHelper& testbed, uint32_t ranks, std::string operation, uint64_t size)
        : m_operation(std::move(operation)),
          m_size(size)
    {
        testbed.peers = 0;
        testbed.Build();
        m_switch = testbed.GetSwitch();
        m_ranks.push_back(testbed.GetGuest(0));
        for (uint32_t i = 1; i < ranks; ++i)
        {
            m_ranks.push_back(testbed.AddHost(m_switch)->GetGuests().front());
        }
        for (const auto& one : m_ranks)
        {
            for (const auto& other : m_ranks)
            {
                if (one != other)
                {
                    VirtualHost::LearnNeighbour(one->stack, other->address, other->mac);
                }
            }
        }
        m_streams.resize(ranks, std::vector<Ptr<MessageStream>>(ranks));
        m_got.resize(ranks, std::vector<uint32_t>(ranks));
        m_round.resize(ranks);
        m_step.resize(ranks);
    }

    double Run(uint32_t rounds)
    {
        m_rounds = rounds;
        for (uint32_t i = 0; i < m_ranks.size(); ++i)
        {
            m_servers.push_back(CreateObject<MessageServer>());
            m_servers.back()->Listen(m_ranks[i], 9000, [this, i](Ptr<MessageStream> stream) {
                // The first message says who speaks, by its size.
                MessageStream* raw = PeekPointer(stream);
                stream->SetReceiver([this, i, raw](uint64_t size) {
                    Join(i, size - MessageStream::SMALLEST, raw);
                });
            });
        }
        for (uint32_t i = 0; i < m_ranks.size(); ++i)
        {
            for (uint32_t j = 0; j < i; ++j)
            {
                Simulator::Schedule(MilliSeconds(1 + i + j), [this, i, j] {
                    m_streams[i][j] =
                        MessageStream::Connect(m_ranks[i]->node,
                                               m_ranks[i]->socketFactory,
                                               InetSocketAddress(m_ranks[j]->address, 9000),
                                               [this, i](Ptr<MessageStream> stream) {
                                                   stream->Send(MessageStream::SMALLEST + i);
                                               });
                    Ptr<MessageStream> stream = m_streams[i][j];
                    stream->SetReceiver([this, i, j](uint64_t) { Got(i, j); });
                });
            }
        }
        Time begin;
        Simulator::Schedule(Seconds(2), [&] {
            begin = Simulator::Now();
            for (uint32_t i = 0; i < m_ranks.size(); ++i)
            {
                m_ranks[i]->vcpu->Submit(MicroSeconds(1), [this, i] { Begin(i); });
            }
        });
        Simulator::Stop(Seconds(300));
        Simulator::Run();
        NS_ABORT_MSG_IF(m_done < m_ranks.size(), "the program was not finished in 300 s");
        const double each = (Simulator::Now() - begin).GetSeconds() * 1000 / rounds;
        for (const auto& row : m_streams)
        {
            for (const auto& stream : row)
            {
                if (stream)
                {
                    stream->Dispose();
                }
            }
        }
        for (const auto& server : m_servers)
        {
            server->Dispose();
        }
        Simulator::Destroy();
        return each;
    }

  private:
    void Join(uint32_t rank, uint32_t other, MessageStream* stream)
    {
        m_streams[rank][other] = stream;
        stream->SetReceiver([this, rank, other](uint64_t) { Got(rank, other); });
    }

    void Send(uint32_t from, uint32_t to)
    {
        NS_ABORT_MSG_UNLESS(m_streams[from][to], "the ranks are not connected");
        m_streams[from][to]->Send(m_size);
    }

    void Got(uint32_t rank, uint32_t from)
    {
        ++m_got[rank][from];
        Advance(rank);
    }

    void Begin(uint32_t rank)
    {
        m_step[rank] = 0;
        if (m_round[rank] == m_rounds)
        {
            if (++m_done == m_ranks.size())
            {
                Simulator::Stop();
            }
            return;
        }
        if (m_operation == "pingpong")
        {
            if (rank == 0)
            {
                Send(0, 1);
            }
        }
        else if (m_operation == "alltoall")
        {
            for (uint32_t i = 0; i < m_ranks.size(); ++i)
            {
                if (i != rank)
                {
                    Send(rank, i);
                }
            }
        }
        else
        {
            Send(rank, rank ^ 1);
        }
        m_begun.insert({rank, true});
        Advance(rank);
    }

    void Advance(uint32_t rank)
    {
        if (m_begun.count(rank) == 0 || m_round[rank] >= m_rounds)
        {
            return;
        }
        if (m_operation == "pingpong")
        {
            if (rank > 1)
            {
                m_round[rank] = m_rounds;
                Begin(rank);
                return;
            }
            const uint32_t other = 1 - rank;
            if (m_got[rank][other] == 0)
            {
                return;
            }
            --m_got[rank][other];
            if (rank == 1)
            {
                Send(1, 0);
            }
        }
        else if (m_operation == "alltoall")
        {
            for (uint32_t i = 0; i < m_ranks.size(); ++i)
            {
                if (i != rank && m_got[rank][i] == 0)
                {
                    return;
                }
            }
            for (uint32_t i = 0; i < m_ranks.size(); ++i)
            {
                m_got[rank][i] -= i != rank;
            }
        }
        else
        {
            // Recursive doubling: after step s, 2^(s+1) ranks have the sum of theirs.
            const uint32_t partner = rank ^ (1U << m_step[rank]);
            if (m_got[rank][partner] == 0)
            {
                return;
            }
            --m_got[rank][partner];
            ++m_step[rank];
            if ((1U << m_step[rank]) < m_ranks.size())
            {
                Send(rank, rank ^ (1U << m_step[rank]));
                Advance(rank);
                return;
            }
        }
        ++m_round[rank];
        Begin(rank);
    }

    std::string m_operation;
    uint64_t m_size;
    uint32_t m_rounds{0};
    Ptr<EthernetBridge> m_switch;
    std::vector<Ptr<VirtualMachine>> m_ranks;
    std::vector<Ptr<MessageServer>> m_servers;
    std::vector<std::vector<Ptr<MessageStream>>> m_streams;
    std::vector<std::vector<uint32_t>> m_got; //!< messages of [rank] from [other] not yet used
    std::vector<uint32_t> m_round;
    std::vector<uint32_t> m_step;
    std::map<uint32_t, bool> m_begun;
    uint32_t m_done{0};
};

} // namespace

int
main(int argc, char* argv[])
{
    TestbedHelper testbed;
    testbed.vms = 2;
    std::string architectures = "netback,ring,hold,outsourcing,leulo";
    std::string operations = "pingpong,alltoall,allreduce";
    std::string sizes = "1000,100000,1000000";
    uint32_t ranks = 4;
    uint32_t rounds = 20;
    std::string csv;
    CommandLine command(__FILE__);
    testbed.AddTo(command);
    command.AddValue("architectures", "several, with commas", architectures);
    command.AddValue("operations", "pingpong, alltoall, allreduce", operations);
    command.AddValue("sizes", "bytes of a message, with commas", sizes);
    command.AddValue("ranks", "a power of two", ranks);
    command.AddValue("rounds", "repetitions, without pause", rounds);
    command.AddValue("csv", "file to write (default: standard output)", csv);
    command.Parse(argc, argv);
    CsvTable table(csv);
    for (const auto& operation : SplitList(operations))
    {
        for (const auto& size : SplitList(sizes))
        {
            for (const auto& name : SplitList(architectures))
            {
                testbed.architecture = name;
                const double ms = World(testbed, ranks, operation, std::stoull(size)).Run(rounds);
                PutSetting(table, testbed)
                    .Put("operation", operation)
                    .Put("ranks", ranks)
                    .Put("size_bytes", size)
                    .Put("round_ms", ms)
                    .EndRow();
            }
        }
    }
    return 0;
}
