// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Many hosts at a switch, each with guests that share a processor, each guest with a sender of its
// own that sends without end: what a simulation of that size costs.
//
//   vsnoop-scale --architecture=hold --hosts=100 --vms=4 --guests=4 --duration=100ms
#include "experiment.h"

#include "ns3/inet-socket-address.h"
#include "ns3/message-stream.h"
#include "ns3/simulator.h"
#include "ns3/stream-tcp-socket.h"

#include <chrono>
#include <sys/resource.h>

using namespace ns3;

int
main(int argc, char* argv[])
{
    TestbedHelper testbed;
    testbed.vms = 4;
    testbed.guests = 4;
    uint32_t hosts = 10;
    Time duration = MilliSeconds(200);
    std::string csv;
    CommandLine command(__FILE__);
    testbed.AddTo(command);
    command.AddValue("hosts", "hosts at the switch", hosts);
    command.AddValue("duration",
                     "simulated, after half a second in which connections open",
                     duration);
    command.AddValue("csv", "file to write (default: standard output)", csv);
    command.Parse(argc, argv);
    const auto begin = std::chrono::steady_clock::now();
    testbed.peers = 0;
    testbed.Build();
    Ptr<EthernetBridge> bridge = testbed.GetSwitch();
    std::vector<Ptr<VirtualMachine>> guests = testbed.GetHost()->GetGuests();
    for (uint32_t i = 1; i < hosts; ++i)
    {
        for (const auto& guest : testbed.AddHost(bridge)->GetGuests())
        {
            guests.push_back(guest);
        }
    }
    std::vector<Ptr<MessageServer>> servers;
    std::vector<Ptr<MessageStream>> clients;
    Ptr<Node> peer;
    for (std::size_t i = 0; i < guests.size(); ++i)
    {
        Ptr<VirtualMachine> guest = guests[i];
        if (i % testbed.guests == 0)
        {
            peer = testbed.AddPeer(bridge); // one for the guests of a host: its link is as fast
        }
        TestbedHelper::Introduce(peer, guest);
        servers.push_back(CreateObject<MessageServer>());
        servers.back()->Listen(guest, 5001, [](Ptr<MessageStream> stream) {
            stream->Send(MessageStream::SMALLEST);
        });
        Simulator::Schedule(MicroSeconds(1000 + 100 * i), [&clients, peer, guest] {
            clients.push_back(MessageStream::Connect(peer,
                                                     StreamTcpSocketFactory::GetTypeId(),
                                                     InetSocketAddress(guest->address, 5001),
                                                     nullptr));
        });
    }
    Simulator::Schedule(MilliSeconds(500), [&clients] {
        for (const auto& client : clients)
        {
            client->Send(1000000000);
        }
    });
    Simulator::Stop(MilliSeconds(500) + duration);
    Simulator::Run();
    uint64_t bytes = 0;
    for (const auto& server : servers)
    {
        for (const auto& stream : server->GetStreams())
        {
            bytes += stream->GetReceivedBytes();
        }
    }
    const double wall =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    CsvTable table(csv);
    PutSetting(table, testbed)
        .Put("hosts", hosts)
        .Put("guests", guests.size())
        .Put("simulated_s", duration.GetSeconds())
        .Put("received_bytes", bytes)
        .Put("events", Simulator::GetEventCount())
        .Put("cpu_s", usage.ru_utime.tv_sec + usage.ru_utime.tv_usec / 1e6)
        .Put("wall_s", wall)
        .Put("memory_mb", usage.ru_maxrss / 1024)
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
    return 0;
}
