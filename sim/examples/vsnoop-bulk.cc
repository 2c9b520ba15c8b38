// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// What networking costs: processor time of guest and driver domain, for a byte and for a round
// trip, and the throughput that is reached. Modes: receive, transmit, pingpong (16 bytes), intervm
// (from one guest to another one of the host).
//
//   vsnoop-bulk --architectures=native,seth,netback --modes=receive,transmit,pingpong --vms=1
#include "experiment.h"

#include "ns3/inet-socket-address.h"
#include "ns3/message-stream.h"
#include "ns3/simulator.h"
#include "ns3/stream-tcp-socket.h"

#include <algorithm>
#include <set>

using namespace ns3;

namespace
{

constexpr uint16_t PORT = 5001;

/// One mode of one architecture.
struct Bulk
{
    TestbedHelper& testbed;
    std::string mode;
    uint32_t streams;
    uint64_t size;
    Time duration;

    std::vector<Ptr<MessageServer>> servers;
    std::vector<Ptr<MessageStream>> clients;
    uint64_t rounds{0};
    bool measuring{false};

    /// Sends messages without end, as the last one was acknowledged.
    void Pump(MessageStream* stream)
    {
        stream->Send(size, [this, stream] { Pump(stream); });
    }

    /// \returns bytes acknowledged so far, whoever sent them
    uint64_t GetAcked() const
    {
        uint64_t acked = 0;
        for (const auto& client : clients)
        {
            acked += client->GetAckedBytes();
        }
        for (const auto& server : servers)
        {
            for (const auto& stream : server->GetStreams())
            {
                acked += stream->GetAckedBytes();
            }
        }
        return acked;
    }

    void Run(CsvTable& table)
    {
        testbed.guests = mode == "intervm" ? 2 : 1;
        testbed.vms = std::max(testbed.vms, testbed.guests);
        testbed.Build();
        Ptr<VirtualHost> host = testbed.GetHost();
        Ptr<VirtualMachine> guest = testbed.GetGuest(0);
        const std::string what = mode;
        servers.push_back(CreateObject<MessageServer>());
        servers.back()->Listen(guest, PORT, [this, what](auto accepted) {
            MessageStream* stream = PeekPointer(accepted);
            if (what == "transmit")
            {
                Pump(stream);
                Pump(stream);
            }
            else if (what == "pingpong")
            {
                stream->SetReceiver([stream](uint64_t) { stream->Send(MessageStream::SMALLEST); });
            }
        });
        Ptr<Node> from = what == "intervm" ? testbed.GetGuest(1)->node : testbed.GetPeer(0);
        const TypeId factory = what == "intervm" ? testbed.GetGuest(1)->socketFactory
                                                 : StreamTcpSocketFactory::GetTypeId();
        for (uint32_t i = 0; i < streams; ++i)
        {
            Simulator::Schedule(MilliSeconds(1), [this, from, factory, guest, what] {
                clients.push_back(
                    MessageStream::Connect(from,
                                           factory,
                                           InetSocketAddress(guest->address, PORT),
                                           [this, what](auto connected) {
                                               MessageStream* stream = PeekPointer(connected);
                                               if (what == "pingpong")
                                               {
                                                   stream->SetReceiver([this, stream](uint64_t) {
                                                       rounds += measuring;
                                                       stream->Send(MessageStream::SMALLEST);
                                                   });
                                                   stream->Send(MessageStream::SMALLEST);
                                               }
                                               else if (what != "transmit")
                                               {
                                                   // Two at a time keep the pipe full.
                                                   Pump(stream);
                                                   Pump(stream);
                                               }
                                           }));
            });
        }
        std::set<Ptr<Vcpu>> guests;
        for (const auto& one : host->GetGuests())
        {
            guests.insert(one->vcpu);
        }
        Ptr<Vcpu> domain = host->GetDriverDomain()->GetVcpu();
        const bool native = guests.erase(domain) > 0; // counted once
        Time guestBefore;
        Time domainBefore;
        uint64_t ackedBefore = 0;
        const auto guestTime = [&guests] {
            Time time;
            for (const auto& vcpu : guests)
            {
                time += vcpu->GetWorkTime();
            }
            return time;
        };
        const Time warmUp = MilliSeconds(200);
        Simulator::Schedule(warmUp, [&] {
            measuring = true;
            guestBefore = guestTime();
            domainBefore = domain->GetWorkTime();
            ackedBefore = GetAcked();
        });
        Simulator::Stop(warmUp + duration);
        Simulator::Run();
        const double seconds = duration.GetSeconds();
        const uint64_t bytes = mode == "pingpong" ? 0 : GetAcked() - ackedBefore;
        const double guestCpu = (guestTime() - guestBefore).GetSeconds();
        const double domainCpu = (domain->GetWorkTime() - domainBefore).GetSeconds();
        PutSetting(table, testbed)
            .Put("mode", mode)
            .Put("streams", streams)
            .Put("throughput_mbps", bytes * 8 / seconds / 1e6)
            .Put("rounds_per_s", rounds / seconds)
            .Put("rtt_us", rounds ? seconds / rounds * 1e6 : 0)
            .Put("guest_cpu_percent", native ? 0 : guestCpu / seconds * 100)
            .Put("domain_cpu_percent", domainCpu / seconds * 100)
            .Put("ns_per_byte", bytes ? (guestCpu + domainCpu) * 1e9 / bytes : 0)
            .Put("events", Simulator::GetEventCount())
            .Put("us_per_round", rounds ? (guestCpu + domainCpu) * 1e6 / rounds : 0)
            .EndRow();
        for (const auto& client : clients)
        {
            client->Dispose();
        }
        for (const auto& server : servers)
        {
            server->Dispose();
        }
        Simulator::Destroy();
    }
};

} // namespace

int
main(int argc, char* argv[])
{
    TestbedHelper testbed;
    testbed.vms = 1;
    std::string architectures = "all";
    std::string modes = "receive,transmit,pingpong";
    uint32_t streams = 1;
    uint64_t size = 1000000;
    Time duration = MilliSeconds(200);
    std::string csv;
    CommandLine command(__FILE__);
    testbed.AddTo(command);
    command.AddValue("architectures", "several, with commas, or all", architectures);
    command.AddValue("modes", "receive, transmit, pingpong, intervm", modes);
    command.AddValue("streams", "connections at a time", streams);
    command.AddValue("size", "bytes of a message", size);
    command.AddValue("duration", "measured, after 200 ms of warm-up", duration);
    command.AddValue("csv", "file to write (default: standard output)", csv);
    command.Parse(argc, argv);
    CsvTable table(csv);
    for (const auto& name :
         architectures == "all" ? TestbedHelper::GetArchitectures() : SplitList(architectures))
    {
        for (const auto& mode : SplitList(modes))
        {
            if (name == "native" && mode == "intervm")
            {
                continue; // there is only one system
            }
            TestbedHelper one = testbed;
            one.architecture = name;
            Bulk{one, mode, streams, size, duration, {}, {}}.Run(table);
        }
    }
    return 0;
}
