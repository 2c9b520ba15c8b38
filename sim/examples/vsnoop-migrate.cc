// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// A guest is taken off its network in the middle of a transfer, with and without quiescing the
// offload first: how long promises take to drain, and whether the transfer survives. Either custody
// stays behind, as in a live migration to a host that knows nothing of it: connections with
// promises outstanding are reset. Or it goes along, as when a guest comes back to the same driver
// domain.
//
//   vsnoop-migrate --architectures=netback,ring,hold --downtime=100ms
#include "experiment.h"

#include "ns3/inet-socket-address.h"
#include "ns3/message-stream.h"
#include "ns3/simulator.h"
#include "ns3/stream-tcp-socket.h"

using namespace ns3;

int
main(int argc, char* argv[])
{
    TestbedHelper testbed;
    std::string architectures = "netback,ring,hold";
    uint64_t size = 20000000;
    Time downtime = MilliSeconds(100);
    Time limit = Seconds(60);
    std::string csv;
    CommandLine command(__FILE__);
    testbed.AddTo(command);
    command.AddValue("architectures", "several, with commas", architectures);
    command.AddValue("size", "bytes of the transfer", size);
    command.AddValue("downtime", "time without a network", downtime);
    command.AddValue("limit", "time after which the transfer counts as dead", limit);
    command.AddValue("csv", "file to write (default: standard output)", csv);
    command.Parse(argc, argv);
    CsvTable table(csv);
    for (const auto& name : SplitList(architectures))
    {
        for (const bool quiesce : {false, true})
        {
            for (const bool custodyMoves : {false, true})
            {
                testbed.architecture = name;
                testbed.Build();
                Ptr<VirtualMachine> guest = testbed.GetGuest(0);
                Ptr<Vif> vif = guest->vif;
                Ptr<SnoopEngine> engine = vif->GetEngine();
                if ((quiesce && !engine) ||
                    (custodyMoves && (!engine || engine->GetPolicy() != SnoopEngine::HOLD)))
                {
                    Simulator::Destroy();
                    continue;
                }
                Time sent;
                Time received;
                Time drained;
                uint64_t promised = 0;
                const Time start = Seconds(1);
                Ptr<MessageServer> server = CreateObject<MessageServer>();
                server->Listen(guest, 5001, [&](Ptr<MessageStream> accepted) {
                    MessageStream* stream = PeekPointer(accepted);
                    stream->Send(MessageStream::SMALLEST);
                    stream->SetReceiver([&](uint64_t) {
                        received = Simulator::Now() - start;
                        Simulator::Stop();
                    });
                });
                Ptr<MessageStream> client;
                Simulator::Schedule(MilliSeconds(1), [&] {
                    client = MessageStream::Connect(testbed.GetPeer(0),
                                                    StreamTcpSocketFactory::GetTypeId(),
                                                    InetSocketAddress(guest->address, 5001),
                                                    nullptr);
                });
                Simulator::Schedule(start, [&] {
                    client->Send(size, [&] { sent = Simulator::Now() - start; });
                });
                const auto detach = [&] {
                    promised = engine ? engine->GetOutstanding(vif->GetEngineId()) : 0;
                    if (engine && !custodyMoves)
                    {
                        engine->Stop(vif->GetEngineId());
                    }
                    vif->Detach(!custodyMoves);
                    Simulator::Schedule(downtime, [&] {
                        vif->Reattach();
                        if (engine)
                        {
                            engine->Quiesce(vif->GetEngineId(), false);
                        }
                    });
                };
                std::function<void()> wait = [&] {
                    if (engine->GetOutstanding(vif->GetEngineId()) == 0)
                    {
                        drained = Simulator::Now() - start - MilliSeconds(70);
                        detach();
                        return;
                    }
                    Simulator::Schedule(MilliSeconds(1), [&] { wait(); });
                };
                Simulator::Schedule(start + MilliSeconds(70), [&] {
                    if (quiesce)
                    {
                        engine->Quiesce(vif->GetEngineId(), true);
                        wait();
                    }
                    else
                    {
                        detach();
                    }
                });
                Simulator::Stop(start + limit);
                Simulator::Run();
                PutSetting(table, testbed)
                    .Put("quiesce", quiesce)
                    .Put("custody_moves", custodyMoves)
                    .Put("size_bytes", size)
                    .Put("downtime_ms", downtime.GetMicroSeconds() / 1000.0)
                    .Put("drained_ms", drained.GetMicroSeconds() / 1000.0)
                    .Put("promised_at_detach_bytes", promised)
                    .Put("survived", received.IsStrictlyPositive())
                    .Put("receiver_ms", received.GetMicroSeconds() / 1000.0)
                    .EndRow();
                client->Dispose();
                server->Dispose();
                Simulator::Destroy();
            }
        }
    }
    return 0;
}
