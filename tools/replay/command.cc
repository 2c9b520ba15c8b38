// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <CLI/CLI.hpp>
#include <memory>

#include "tools/commands.h"
#include "tools/options.h"
#include "tools/replay/replay.h"
#include "tools/units.h"

namespace vsnoop {

void add_replay_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "replay", "what vsnoop would have done with a capture, judged by the capture itself");
  auto options = std::make_shared<replay::Options>();
  auto log = std::make_shared<std::string>();
  auto texts = std::make_shared<std::vector<std::string>>();
  auto policy = std::make_shared<std::string>("hold");
  auto vcpu = std::make_shared<std::string>();

  CLI::Option* files =
      command->add_option("FILE", options->paths,
                          "captures (pcap, pcapng; gzip, bzip2, xz, zstd, lz4) and directories of "
                          "them; -: standard input");
  command->add_option("--log", *log, "reproduce the verdicts of a decision log instead")
      ->check(CLI::ExistingFile)
      ->excludes(files);
  command->add_option("--guest", *texts, "ADDR or ADDR/PREFIX of guests (default: who receives)")
      ->check(readable(replay::parse_prefix))
      ->allow_extra_args(false);
  command
      ->add_option("--policy", *policy,
                   "acknowledge nothing, what is in the guest's ring, or what is held for it")
      ->check(kPolicyNames)
      ->capture_default_str();
  command->add_option("--ring", options->ring, "slots of the guest's ring (default: unlimited)")
      ->check(CLI::PositiveNumber);
  add_parsed(*command, "--hold", options->hold, parse_positive, "8Mi",
             "memory for a guest's held frames and reserved window");
  command->add_option("--vcpu", *vcpu, "SLICE/SHARE: what if the guest were scheduled: 30ms/0.33")
      ->check(readable(replay::parse_vcpu));
  command->add_flag_callback(
      "--no-early-sack", [options] { options->early_sack = false; },
      "no SACK on the guest's behalf: at a hole the guest speaks for itself");
  command->add_flag("--assume-checksums", options->assume_checksums,
                    "take checksums as right that the capture is too short to verify");
  command->add_option("--flows", options->flows, "rows of the table of connections (default: 5)");
  command->add_option("--json", options->json,
                      "write everything as JSON; -: to standard output instead of the text");
  command->add_option(
      "-w", options->pcapng,
      "write the capture with vsnoop's frames inserted (pcapng); -: to standard output");
  CLI::Option* plot =
      command->add_option("--plot", options->plot, "draw a time-sequence diagram (SVG)");
  command->add_option("--flow", options->plot_flow, "connection to draw (default: most promised)")
      ->check(CLI::PositiveNumber)
      ->needs(plot);

  command->add_option("--write-log", options->write_log,
                      "write the engine's decision log; --log reproduces it");

  command->callback([=] {
    if (!log->empty()) throw CLI::RuntimeError(replay::replay_log(*log));
    if (options->paths.empty()) throw CLI::RequiredError("FILE");
    for (const std::string& text : *texts) options->guests.push_back(replay::parse_prefix(text));
    options->policy = policy_named(*policy);
    if (!vcpu->empty()) options->vcpu = replay::parse_vcpu(*vcpu);
    if (const int status = replay::run_replay(*options)) throw CLI::RuntimeError(status);
  });
}

}  // namespace vsnoop
