// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// What the command lines of all our programs share.
#pragma once

#include <CLI/CLI.hpp>
#include <stdexcept>
#include <string>

#include "snoop-core/vsnoop.h"

namespace vsnoop {

/// Checks the name of a policy, for policy_named().
inline const CLI::IsMember kPolicyNames({"off", "ring", "hold"});

/// `name` is one of kPolicyNames.
inline vsnoop_policy policy_named(const std::string& name) {
  return name == "off"    ? VSNOOP_POLICY_OFF
         : name == "ring" ? VSNOOP_POLICY_RING
                          : VSNOOP_POLICY_HOLD;
}

/// Checks an option's text with a function that throws std::invalid_argument, while the command
/// line is read, so that the complaint names the option.
template <typename Parse>
CLI::Validator readable(Parse parse) {
  return CLI::Validator(
      [parse](std::string& text) -> std::string {
        try {
          parse(text);
          return {};
        } catch (const std::invalid_argument& error) {
          return error.what();
        }
      },
      "");
}

/// Adds an option whose text `parse` makes into `value`; `fallback` is its default, as one would
/// write it.
template <typename T, typename Parse>
CLI::Option* add_parsed(CLI::App& app, const std::string& name, T& value, Parse parse,
                        const std::string& fallback, const std::string& help = "") {
  value = static_cast<T>(parse(fallback));
  return app
      .add_option_function<std::string>(
          name, [&value, parse](const std::string& text) { value = static_cast<T>(parse(text)); },
          help)
      ->check(readable(parse))
      ->default_str(fallback);
}

/// The one line about a command line that cannot be obeyed, beginning with the command and its
/// subcommands; for CLI::App::failure_message().
inline std::string one_line(const CLI::App* app, const CLI::Error& error) {
  std::string name = app->get_name();
  for (auto parsed = app->get_subcommands(); !parsed.empty(); parsed = app->get_subcommands()) {
    app = parsed.front();
    name += " " + app->get_name();
  }
  return name + ": " + error.what() + " (see " + name + " --help)\n";
}

}  // namespace vsnoop
