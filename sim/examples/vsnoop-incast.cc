// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Many peers send to one guest at the same moment, over established connections: time of the first
// and last, fairness (Jain's index of the rates), losses.
//
//   vsnoop-incast --architectures=netback,hold --peersList=1,4,16,64 --size=100000
#include "experiment.h"

#include "ns3/inet-socket-address.h"
#include "ns3/message-stream.h"
#include "ns3/simulator.h"
#include "ns3/stream-tcp-socket.h"

#include <algorithm>

using namespace ns3;

int
main(int argc, char* argv[])
{
    TestbedHelper testbed;
    std::string architectures = "netback,ring,hold,outsourcing,split-proxy";
    std::string peersList = "1,4,16,64";
    uint64_t size = 100000;
    uint32_t repeats = 6;
    std::string csv;
    CommandLine command(__FILE__);
    testbed.AddTo(command);
    command.AddValue("architectures", "several, with commas", architectures);
    command.AddValue("peersList", "several numbers of peers, with commas", peersList);
    command.AddValue("size", "bytes that each sends", size);
    command.AddValue("repeats", "at phases spread evenly", repeats);
    command.AddValue("csv", "file to write (default: standard output)", csv);
    command.Parse(argc, argv);
    CsvTable table(csv);
    for (const auto& peers : SplitList(peersList))
    {
        for (const auto& name : SplitList(architectures))
        {
            for (uint32_t i = 0; i < repeats; ++i)
            {
                testbed.peers = std::stoul(peers);
                testbed.architecture = name;
                testbed.Build();
                const uint16_t port = 5001;
                Ptr<VirtualMachine> guest = testbed.GetGuest(0);
                const Time start =
                    Seconds(2) + testbed.slice * testbed.vms * (2 * i + 1) / (2 * repeats);
                std::vector<double> sender;
                std::vector<double> receiver;
                const auto since = [start] {
                    return (Simulator::Now() - start).GetSeconds() * 1000;
                };
                const auto finish = [&] {
                    if (sender.size() == testbed.peers && receiver.size() == testbed.peers)
                    {
                        Simulator::Stop();
                    }
                };
                Ptr<MessageServer> server = CreateObject<MessageServer>();
                server->Listen(guest, port, [&](auto accepted) {
                    MessageStream* stream = PeekPointer(accepted);
                    stream->Send(MessageStream::SMALLEST);
                    stream->SetReceiver([&, stream](uint64_t) {
                        receiver.push_back(since());
                        stream->Send(MessageStream::SMALLEST);
                        finish();
                    });
                });
                std::vector<Ptr<MessageStream>> clients;
                for (uint32_t p = 0; p < testbed.peers; ++p)
                {
                    Simulator::Schedule(MilliSeconds(1 + p), [&, p] {
                        clients.push_back(
                            MessageStream::Connect(testbed.GetPeer(p),
                                                   StreamTcpSocketFactory::GetTypeId(),
                                                   InetSocketAddress(guest->address, port),
                                                   nullptr));
                    });
                }
                Simulator::Schedule(start, [&] {
                    for (const auto& client : clients)
                    {
                        client->Send(size, [&] {
                            sender.push_back(since());
                            finish();
                        });
                    }
                });
                Simulator::Stop(Seconds(300));
                Simulator::Run();
                NS_ABORT_MSG_IF(receiver.size() < testbed.peers, name << ": not finished in 300 s");
                double sum = 0;
                double squares = 0;
                for (const double time : receiver)
                {
                    sum += 1 / time;
                    squares += 1 / (time * time);
                }
                uint64_t drops = testbed.GetHost()->GetDriverDomain()->GetNicDrops();
                uint64_t held = 0;
                if (const Ptr<Vif> vif = guest->vif)
                {
                    drops += vif->GetDrops();
                    held = vif->GetEngine() ? vif->GetEngine()->GetPeakHeld(vif->GetEngineId()) : 0;
                }
                PutSetting(table, testbed)
                    .Put("peers", testbed.peers)
                    .Put("size_bytes", size)
                    .Put("repeat", i)
                    .Put("sender_last_ms", *std::max_element(sender.begin(), sender.end()))
                    .Put("receiver_first_ms", *std::min_element(receiver.begin(), receiver.end()))
                    .Put("receiver_last_ms", *std::max_element(receiver.begin(), receiver.end()))
                    .Put("fairness", sum * sum / (receiver.size() * squares))
                    .Put("drops", drops)
                    .Put("peak_held_bytes", held)
                    .EndRow();
                for (const auto& client : clients)
                {
                    client->Dispose();
                }
                server->Dispose();
                Simulator::Destroy();
            }
        }
    }
    return 0;
}
