// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Time of one transfer from a peer to a guest, on the sender's clock (last byte acknowledged) and
// on the receiver's (last byte read by the guest's program), at phases of the scheduler that are
// spread evenly, the same for all architectures.
//
//   vsnoop-transfer --architectures=netback,hold --vmsList=1,3 --sizes=10000,1000000
#include "experiment.h"

#include "ns3/transfer.h"

#include <algorithm>

using namespace ns3;

int
main(int argc, char* argv[])
{
    TestbedHelper testbed;
    std::string architectures;
    std::string vmsList;
    std::string guestKinds = "io";
    std::string connections = "established";
    std::string sizes = "10000,100000,1000000,10000000";
    uint32_t repeats = 12;
    std::string csv;
    std::string pcap;
    bool list = false;
    CommandLine command(__FILE__);
    testbed.AddTo(command);
    command.AddValue("architectures", "several, with commas, or all", architectures);
    command.AddValue("vmsList", "several numbers of VMs, with commas", vmsList);
    command.AddValue("guestKinds", "io, busy or both", guestKinds);
    command.AddValue("connections", "established, fresh or both", connections);
    command.AddValue("sizes", "bytes, with commas", sizes);
    command.AddValue("repeats", "transfers of each kind, at phases spread evenly", repeats);
    command.AddValue("csv", "file to write (default: standard output)", csv);
    command.AddValue("pcap", "prefix of captures of the last transfer", pcap);
    command.AddValue("list", "print the names of all architectures and end", list);
    command.Parse(argc, argv);
    if (list)
    {
        for (const auto& name : TestbedHelper::GetArchitectures())
        {
            std::cout << name << "\n";
        }
        return 0;
    }

    const uint32_t run = testbed.run;
    CsvTable table(csv);
    const auto orElse = [](const std::string& list, const std::string& single) {
        return SplitList(list.empty() ? single : list);
    };
    const std::vector<std::string> chosen = architectures == "all"
                                                ? TestbedHelper::GetArchitectures()
                                                : orElse(architectures, testbed.architecture);
    for (const auto& vms : orElse(vmsList, std::to_string(testbed.vms)))
    {
        for (const auto& guest : SplitList(guestKinds))
        {
            for (const auto& connection : SplitList(connections))
            {
                for (const auto& size : SplitList(sizes))
                {
                    for (const auto& name : chosen)
                    {
                        testbed.vms = std::stoul(vms);
                        testbed.guest = guest;
                        testbed.architecture = name;
                        for (uint32_t i = 0; i < repeats; ++i)
                        {
                            // Other frames are lost in each, the same for all architectures.
                            testbed.run = run * repeats + i;
                            const Time cycle = testbed.slice * std::max<int64_t>(1, testbed.vms);
                            const Time phase = cycle * (2 * i + 1) / (2 * repeats);
                            const Transfer::Result result =
                                Transfer(testbed, std::stoull(size), connection == "fresh", phase)
                                    .Run(pcap);
                            PutSetting(table, testbed)
                                .Put("connection", connection)
                                .Put("size_bytes", size)
                                .Put("repeat", i)
                                .Put("sender_ms", result.sender.GetNanoSeconds() / 1e6)
                                .Put("receiver_ms", result.receiver.GetNanoSeconds() / 1e6)
                                .Put("timeouts", result.timeouts)
                                .Put("recoveries", result.recoveries)
                                .Put("drops", result.drops)
                                .Put("early_acks", result.earlyAcks)
                                .Put("peak_held_bytes", result.peakHeld)
                                .Put("peak_ring_bytes", result.peakRing)
                                .Put("guest_cpu_ms", result.guestCpu.GetNanoSeconds() / 1e6)
                                .Put("domain_cpu_ms", result.domainCpu.GetNanoSeconds() / 1e6)
                                .Put("neighbour_cpu_ms", result.neighbourCpu.GetNanoSeconds() / 1e6)
                                .Put("events", result.events)
                                .Put("wall_s", result.wallSeconds)
                                .EndRow();
                        }
                    }
                }
            }
        }
    }
    return 0;
}
