// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include <functional>
#include <memory>
#include <ostream>

#include "tools/xen/host.h"

namespace CLI {
class App;
}

namespace vsnoop::xen {

/// Where a subcommand works: `open` is called once it is known to be well formed. `screen`: `out`
/// is a terminal that `top` may clear.
struct Surroundings {
  std::function<std::unique_ptr<XenHost>()> open;
  std::ostream& out;
  std::ostream& err;
  bool screen = false;
};

/// Adds "xen" and its subcommands. What it refers to must outlive the parsing.
void add_commands(CLI::App& app, const Surroundings& surroundings);

}  // namespace vsnoop::xen
