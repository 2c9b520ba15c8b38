// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The subcommands of the `vsnoop` program. Each function adds its subcommand, options and callback
// to the application. A callback that fails throws: std::exception for an error that main() prints
// in one line (exit status 1), CLI::RuntimeError(status) when it has said everything itself.
#pragma once

namespace CLI {
class App;
}

namespace vsnoop {

void add_live_command(CLI::App& app);
void add_replay_command(CLI::App& app);
void add_xen_command(CLI::App& app);

}  // namespace vsnoop
