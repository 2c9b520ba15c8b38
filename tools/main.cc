// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// vsnoop - acknowledges TCP data on behalf of a guest whose virtual CPU is not running.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>

#include "tools/commands.h"
#include "tools/options.h"

namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

// `vsnoop help`, `vsnoop help replay`: what --help says.
void add_help_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("help", "what a command does, and its options");
  auto name = std::make_shared<std::string>();
  command->add_option("COMMAND", *name, "one of the others");
  command->callback([&app, name] {
    const CLI::App* about = &app;
    try {
      if (!name->empty()) about = app.get_subcommand(*name);
    } catch (const CLI::OptionNotFound&) {
      throw CLI::ValidationError("COMMAND", "there is no command '" + *name + "'");
    }
    std::fputs(about->help().c_str(), stdout);
  });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("acknowledgement offload for virtual machines that share a CPU", "vsnoop");
  app.failure_message(vsnoop::one_line);
  app.set_version_flag("-V,--version", "vsnoop " VSNOOP_VERSION);
  app.require_subcommand(1);
  vsnoop::add_live_command(app);
  vsnoop::add_replay_command(app);
  vsnoop::add_xen_command(app);
  add_help_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::RuntimeError& error) {
    return error.get_exit_code();
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    app.exit(error);
    return kUsage;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "vsnoop: %s\n", error.what());
    return kFailed;
  }
  return 0;
}
