// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// A two-tier web auction: clients with think times, a front end and a database, each a guest of the
// same host. A request (a bid with a picture) goes to the front end, which computes, asks the
// database, computes, and answers with a page.
//
//   vsnoop-web --architectures=netback,hold --clientsList=10,50,100
#include "experiment.h"

#include "ns3/double.h"
#include "ns3/inet-socket-address.h"
#include "ns3/message-stream.h"
#include "ns3/random-variable-stream.h"
#include "ns3/simulator.h"
#include "ns3/stream-tcp-socket.h"

#include <algorithm>

using namespace ns3;

int
main(int argc, char* argv[])
{
    TestbedHelper testbed;
    testbed.vms = 4;
    testbed.guests = 2;
    std::string architectures = "netback,ring,hold,seth,split-proxy,outsourcing,leulo";
    std::string clientsList = "10,40";
    uint64_t request = 60000;
    uint64_t query = 300;
    uint64_t rows = 8000;
    uint64_t page = 20000;
    Time compute = MicroSeconds(200);
    Time think = MilliSeconds(500);
    Time duration = Seconds(20);
    std::string csv;
    CommandLine command(__FILE__);
    testbed.AddTo(command);
    command.AddValue("architectures", "several, with commas", architectures);
    command.AddValue("clientsList", "several numbers of clients, with commas", clientsList);
    command.AddValue("request", "bytes of a request", request);
    command.AddValue("query", "bytes of a query to the database", query);
    command.AddValue("rows", "bytes of its answer", rows);
    command.AddValue("page", "bytes of a page", page);
    command.AddValue("compute", "processor time of a request, in each of three places", compute);
    command.AddValue("think", "mean of the exponential think time", think);
    command.AddValue("duration", "simulated, after two seconds of warm-up", duration);
    command.AddValue("csv", "file to write (default: standard output)", csv);
    command.Parse(argc, argv);
    CsvTable table(csv);
    for (const auto& number : SplitList(clientsList))
    {
        for (const auto& name : SplitList(architectures))
        {
            const uint32_t clients = std::stoul(number);
            testbed.architecture = name;
            testbed.peers = 1;
            testbed.Build();
            Ptr<VirtualMachine> front = testbed.GetGuest(0);
            Ptr<VirtualMachine> database = testbed.GetGuest(1);
            Ptr<ExponentialRandomVariable> pause =
                CreateObjectWithAttributes<ExponentialRandomVariable>(
                    "Mean",
                    DoubleValue(think.GetSeconds()));
            pause->SetStream(1);

            Ptr<MessageServer> databaseServer = CreateObject<MessageServer>();
            databaseServer->Listen(database, 5432, [&](Ptr<MessageStream> accepted) {
                MessageStream* stream = PeekPointer(accepted);
                stream->SetReceiver([&, stream](uint64_t) {
                    database->vcpu->Submit(compute, [&, stream] { stream->Send(rows); });
                });
            });
            // One connection to the database for each client's, as a pool would have.
            std::vector<Ptr<MessageStream>> queries;
            Ptr<MessageServer> frontServer = CreateObject<MessageServer>();
            frontServer->Listen(front, 80, [&](Ptr<MessageStream> accepted) {
                MessageStream* stream = PeekPointer(accepted);
                queries.push_back(MessageStream::Connect(front->node,
                                                         front->socketFactory,
                                                         InetSocketAddress(database->address, 5432),
                                                         nullptr));
                MessageStream* asked = PeekPointer(queries.back());
                stream->SetReceiver([&, asked](uint64_t) {
                    front->vcpu->Submit(compute, [&, asked] { asked->Send(query); });
                });
                asked->SetReceiver([&, stream](uint64_t) {
                    front->vcpu->Submit(compute, [&, stream] { stream->Send(page); });
                });
            });
            std::vector<Ptr<MessageStream>> browsers;
            std::vector<double> times;
            const Time warm = Seconds(2);
            for (uint32_t i = 0; i < clients; ++i)
            {
                Simulator::Schedule(MilliSeconds(1 + 2 * i), [&] {
                    auto asked = std::make_shared<Time>();
                    browsers.push_back(MessageStream::Connect(testbed.GetPeer(0),
                                                              StreamTcpSocketFactory::GetTypeId(),
                                                              InetSocketAddress(front->address, 80),
                                                              nullptr));
                    MessageStream* stream = PeekPointer(browsers.back());
                    const auto ask = [&, stream, asked] {
                        Simulator::Schedule(Seconds(pause->GetValue()), [&, stream, asked] {
                            *asked = Simulator::Now();
                            stream->Send(request);
                        });
                    };
                    stream->SetReceiver([&, asked, ask](uint64_t) {
                        if (*asked > warm)
                        {
                            times.push_back((Simulator::Now() - *asked).GetSeconds() * 1000);
                        }
                        ask();
                    });
                    ask();
                });
            }
            Simulator::Stop(warm + duration);
            Simulator::Run();
            std::sort(times.begin(), times.end());
            double sum = 0;
            for (const double time : times)
            {
                sum += time;
            }
            const std::size_t n = std::max<std::size_t>(1, times.size());
            PutSetting(table, testbed)
                .Put("clients", clients)
                .Put("requests_per_s", times.size() / duration.GetSeconds())
                .Put("mean_ms", sum / n)
                .Put("median_ms", times.empty() ? 0 : times[n / 2])
                .Put("p95_ms", times.empty() ? 0 : times[n * 95 / 100])
                .EndRow();
            for (auto* list : {&browsers, &queries})
            {
                for (const auto& stream : *list)
                {
                    stream->Dispose();
                }
            }
            frontServer->Dispose();
            databaseServer->Dispose();
            Simulator::Destroy();
        }
    }
    return 0;
}
