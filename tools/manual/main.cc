// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Writes man pages and shell completions of `vsnoop` from the definitions of its options, so that
// there is one place that says what each means. What a page says beyond them (signals, exit
// status, examples) is in docs/man/PAGE.roff.
//
//   vsnoop-manual PROSE-FOLDER OUTPUT-FOLDER
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "tools/commands.h"

namespace {

namespace fs = std::filesystem;

std::vector<const CLI::App*> subcommands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size())
    text.replace(at, what.size(), by);
  return text;
}

// Text as roff prints it literally.
std::string roff(std::string text) {
  text = replaced(text, "\\", "\\e");
  text = replaced(text, "-", "\\-");
  return !text.empty() && (text[0] == '.' || text[0] == '\'') ? "\\&" + text : text;
}

std::string names(const CLI::Option& option) {
  std::string all;
  for (const std::string& name : option.get_snames()) all += (all.empty() ? "-" : ", -") + name;
  for (const std::string& name : option.get_lnames()) all += (all.empty() ? "--" : ", --") + name;
  return all;
}

bool takes_value(const CLI::Option& option) { return option.get_expected_max() > 0; }

// The words of "{off,ring,hold}", if that is what the option takes.
std::vector<std::string> choices(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t from = type.find('{'), to = type.find('}');
  std::vector<std::string> words;
  if (from == std::string::npos || to == std::string::npos) return words;
  std::string word;
  for (size_t i = from + 1; i <= to; ++i) {
    if (type[i] == ',' || type[i] == '}') {
      words.push_back(word);
      word.clear();
    } else {
      word += type[i];
    }
  }
  return words;
}

std::string value_of(const CLI::Option& option) {
  const std::vector<std::string> words = choices(option);
  return words.empty() ? "VALUE" : fmt::format("{}", fmt::join(words, "|"));
}

std::string slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) throw std::runtime_error(fmt::format("{} cannot be written", path.string()));
}

// ---- man pages

std::string man_options(const CLI::App& app) {
  std::string text;
  for (const CLI::Option* option : app.get_options()) {
    if (option->nonpositional() && !option->get_group().empty()) {
      text += ".TP\n.B " + roff(names(*option));
      if (takes_value(*option)) text += " " + roff(value_of(*option));
      text += "\n" + roff(option->get_description());
      if (!option->get_default_str().empty() && takes_value(*option))
        text += roff(fmt::format(" (default: {})", option->get_default_str()));
      text += ".\n";
    }
  }
  return text;
}

std::string man_page(const std::string& name, int section, const CLI::App& app,
                     const std::string& command, const fs::path& prose) {
  std::string text = fmt::format(
      ".\\\" SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause\n"
      ".\\\" Made by vsnoop-manual from the definitions of the options.\n"
      ".TH {} {} \"\" vsnoop \"{}\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.B {}\n",
      replaced(CLI::detail::to_lower(name), "-", "\\-"), section,
      section == 8 ? "System administration" : "User commands", roff(name),
      roff(app.get_description()), roff(command));
  for (const CLI::Option* option : app.get_options())
    if (option->get_required() && option->nonpositional())
      text += fmt::format(".B {}\n.I {}\n", roff(names(*option)), roff(value_of(*option)));
  if (!subcommands(app).empty()) text += ".I COMMAND\n";
  text += ".RI [ OPTION ...]\n";
  for (const CLI::Option* option : app.get_options())
    if (option->get_positional())
      text += fmt::format(".RI [ {} ...]\n", roff(option->get_name(true)));
  const std::string more = slurp(prose / (name + ".roff"));
  const size_t options_at = more.find(".\\\" OPTIONS\n");
  text += options_at == std::string::npos ? more : more.substr(0, options_at);
  if (!subcommands(app).empty()) {
    text += ".SH COMMANDS\n";
    for (const CLI::App* sub : subcommands(app))
      text += fmt::format(".TP\n.B {}\n{}.\n", roff(sub->get_name()), roff(sub->get_description()));
  }
  text += ".SH OPTIONS\n" + man_options(app);
  if (options_at != std::string::npos) text += more.substr(more.find('\n', options_at) + 1);
  return text;
}

// ---- completions

using Visit = std::function<void(const CLI::App& app, const std::string& path)>;

void for_each_command(const CLI::App& app, const std::string& path, const Visit& visit) {
  visit(app, path);
  for (const CLI::App* sub : subcommands(app))
    for_each_command(*sub, path + " " + sub->get_name(), visit);
}

// One-letter and long names, one word each.
std::vector<std::string> words(const CLI::Option& option) {
  std::vector<std::string> all;
  for (const std::string& name : option.get_snames()) all.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) all.push_back("--" + name);
  return all;
}

std::string bash(const CLI::App& app) {
  std::string commands, options, values;
  for_each_command(app, app.get_name(), [&](const CLI::App& command, const std::string& path) {
    std::string subs, own;
    for (const CLI::App* sub : subcommands(command)) subs += sub->get_name() + " ";
    for (const CLI::Option* option : command.get_options()) {
      for (const std::string& word : words(*option)) {
        own += word + " ";
        if (!takes_value(*option)) continue;
        const std::vector<std::string> known = choices(*option);
        if (word == "--peer-if" || word == "--guest-if")
          values += fmt::format(
              "    \"{} {}\") reply=$(cd /sys/class/net 2>/dev/null && echo *);;\n", path, word);
        else if (!known.empty())
          values +=
              fmt::format("    \"{} {}\") reply=\"{}\";;\n", path, word, fmt::join(known, " "));
        else
          values += fmt::format("    \"{} {}\") return;;\n", path, word);
      }
    }
    commands += fmt::format("    \"{}\") subs=\"{}\" options=\"{}\";;\n", path, subs, own);
  });
  return "# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause\n"
         "# Made by vsnoop-manual. Where nothing is known the shell completes names of files.\n"
         "_vsnoop() {\n"
         "  local word=${COMP_WORDS[COMP_CWORD]} path=vsnoop subs options reply=\n"
         "  local before=${COMP_WORDS[COMP_CWORD-1]} i\n"
         "  _vsnoop_command() {\n    case $1 in\n" +
         commands +
         "    *) subs= options=;;\n    esac\n  }\n"
         "  _vsnoop_command vsnoop\n"
         "  for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "    if [[ \" $subs\" == *\" ${COMP_WORDS[i]} \"* ]]; then\n"
         "      path+=\" ${COMP_WORDS[i]}\"\n"
         "      _vsnoop_command \"$path\"\n"
         "    fi\n"
         "  done\n"
         "  case \"$path $before\" in\n" +
         values +
         "    *) reply=\"$subs\"; [[ $word == -* || -z $subs ]] && reply+=$options;;\n"
         "  esac\n"
         "  mapfile -t COMPREPLY < <(compgen -W \"$reply\" -- \"$word\")\n"
         "}\n"
         "complete -o default -F _vsnoop vsnoop\n";
}

// A description inside of '...[...]' of zsh's _arguments.
std::string zsh_text(std::string text) {
  text = replaced(text, "'", "'\\''");
  text = replaced(text, "[", "\\[");
  text = replaced(text, "]", "\\]");
  return replaced(text, ":", "\\:");
}

std::string zsh(const CLI::App& app) {
  std::string text =
      "#compdef vsnoop\n"
      "# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause\n"
      "# Made by vsnoop-manual.\n";
  for_each_command(
      app, "_" + app.get_name(), [&](const CLI::App& command, const std::string& path) {
        const std::string function = replaced(path, " ", "_");
        text += function + "() {\n  local -a commands\n  local state line\n  commands=(\n";
        for (const CLI::App* sub : subcommands(command))
          text += fmt::format("    '{}:{}'\n", sub->get_name(), zsh_text(sub->get_description()));
        text += "  )\n  _arguments -C \\\n";
        for (const CLI::Option* option : command.get_options()) {
          for (const std::string& word : words(*option)) {
            std::string value;
            if (takes_value(*option)) {
              const std::vector<std::string> known = choices(*option);
              value = word == "--peer-if" || word == "--guest-if" ? ":interface:_net_interfaces"
                      : known.empty()                             ? ":value:_files"
                                      : fmt::format(":value:({})", fmt::join(known, " "));
            }
            text += fmt::format("    '{}[{}]{}' \\\n", word, zsh_text(option->get_description()),
                                value);
          }
        }
        if (subcommands(command).empty()) {
          text += "    '*:file:_files'\n}\n";
          return;
        }
        text +=
            "    '1:command:->command' '*::argument:->argument'\n"
            "  case $state in\n  command) _describe command commands;;\n  argument)\n"
            "    case $line[1] in\n";
        for (const CLI::App* sub : subcommands(command))
          text += fmt::format("    {0}) {1}_{0};;\n", sub->get_name(), function);
        text += "    esac;;\n  esac\n}\n";
      });
  return text + "_vsnoop \"$@\"\n";
}

void make(const fs::path& prose, const fs::path& out) {
  CLI::App app("acknowledgement offload for virtual machines that share a CPU", "vsnoop");
  app.set_version_flag("--version", "");
  vsnoop::add_live_command(app);
  vsnoop::add_replay_command(app);
  vsnoop::add_xen_command(app);
  fs::create_directories(out);
  write(out / "vsnoop.1", man_page("vsnoop", 1, app, "vsnoop", prose));
  write(out / "vsnoop-live.8",
        man_page("vsnoop-live", 8, *app.get_subcommand("live"), "vsnoop live", prose));
  write(out / "vsnoop-replay.1",
        man_page("vsnoop-replay", 1, *app.get_subcommand("replay"), "vsnoop replay", prose));
  write(out / "vsnoop.bash", bash(app));
  write(out / "_vsnoop", zsh(app));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "vsnoop-manual: usage: vsnoop-manual PROSE-FOLDER OUTPUT-FOLDER\n");
    return 2;
  }
  try {
    make(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "vsnoop-manual: %s\n", error.what());
    return 1;
  }
  return 0;
}
