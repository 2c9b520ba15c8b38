// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "tools/replay/pcapng.h"
#include "tools/replay/plot.h"
#include "tools/replay/replay.h"
#include "tools/replay/report.h"
#include "tools/replay/what_if.h"
#include "tools/units.h"

namespace vsnoop::replay {
namespace {

// A bar on standard error, for people only and only when it takes long.
class Progress {
 public:
  Progress(const std::string& path, uint64_t size)
      : name_(std::filesystem::path(path).filename().string()),
        size_(std::max<uint64_t>(1, size)),
        on_(isatty(STDERR_FILENO) != 0) {}
  ~Progress() {
    if (shown_) fmt::print(stderr, "\r\033[K");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void update(uint64_t position) {
    const auto now = Clock::now();
    if (!on_ || now < next_) return;
    next_ = now + std::chrono::milliseconds(100);
    shown_ = true;
    const uint64_t done = std::min(position, size_) * 30 / size_;
    fmt::print(stderr, "\r{:<30.30} [{:<30}] {:3} %", name_, std::string(done, '#'),
               std::min(position, size_) * 100 / size_);
    std::fflush(stderr);
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::string name_;
  uint64_t size_;
  bool on_, shown_ = false;
  Clock::time_point next_ = Clock::now() + std::chrono::milliseconds(500);
};

bool is_capture_name(const std::filesystem::path& path) {
  const std::string suffix = path.extension().string();
  return suffix == ".pcap" || suffix == ".pcapng" || suffix == ".cap";
}

std::vector<std::string> find_captures(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    if (!std::filesystem::is_directory(path)) {
      files.push_back(path);
      continue;
    }
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(
             path, std::filesystem::directory_options::skip_permission_denied)) {
      if (entry.is_regular_file() && is_capture_name(entry.path())) {
        found.push_back(entry.path().string());
      }
    }
    if (found.empty()) {
      throw std::runtime_error(
          fmt::format("{}: no *.pcap, *.pcapng or *.cap in this directory", path));
    }
    std::sort(found.begin(), found.end());
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

// One pass over what the plan could read.
void replay_once(const Options& options, FileResult& file, std::vector<Observer*> observers) {
  CaptureReader reader(file.path);
  Progress progress(file.path, reader.size());
  WhatIf what_if(options, file, std::move(observers));
  CapturedFrame frame;
  for (uint64_t n = 0; n < file.plan.frames && reader.next(frame); n++) {
    what_if.frame(std::move(frame));
    progress.update(reader.position());
  }
  what_if.finish();
}

void draw_plot(const Options& options, const FileResult& file) {
  uint64_t most = 0;
  uint32_t chosen = options.plot_flow;
  for (uint32_t i = 0; i < file.flows.size() && !options.plot_flow; i++) {
    const auto& fates = file.flows[i].oracle.fates;
    const uint64_t promised = fates[0].bytes + fates[1].bytes + fates[2].bytes;
    if (promised > most || chosen == 0) {
      most = promised;
      chosen = i + 1;
    }
  }
  if (chosen == 0 || chosen > file.flows.size() ||
      file.plan.connections[chosen - 1].guest_side < 0) {
    throw std::runtime_error(fmt::format("--flow {}: {} has {} connections with a guest", chosen,
                                         file.path, file.flows.size()));
  }
  FileResult again;
  again.path = file.path;
  again.plan = file.plan;
  Plot plot(chosen - 1);
  Options quiet = options;
  quiet.write_log.clear();
  replay_once(quiet, again, {&plot});
  const Connection& connection = file.plan.connections[chosen - 1];
  plot.draw(options.plot,
            fmt::format("flow {}: {} → {}", chosen,
                        to_text(connection.peer_end().address, connection.peer_end().port),
                        to_text(connection.guest_end().address, connection.guest_end().port)));
}

FileResult replay_file(const Options& options, const std::string& path) {
  FileResult file;
  file.path = path;
  try {
    file.plan = make_plan(path, options.guests);
  } catch (const CaptureError& error) {
    file.error = error.what();
    return file;
  }
  file.error = file.plan.error;
  std::optional<CaptureWithAcks> writer;
  std::vector<Observer*> observers;
  if (!options.pcapng.empty()) observers.push_back(&writer.emplace(options.pcapng));
  replay_once(options, file, observers);
  if (writer) writer->close();
  return file;
}

int status_of(const FileResult& file) {
  uint64_t broken = 0;
  for (const FlowResult& flow : file.flows) {
    broken += flow.oracle.fates[static_cast<size_t>(Fate::broken)].early_acks;
  }
  if (file.violation_count) return status_violation;
  if (broken) return status_broken;
  return file.error.empty() ? status_fine : status_unreadable;
}

void write_json(const std::string& path, const std::vector<FileResult>& files) {
  const std::string text = json_report(files).dump(2) + "\n";
  if (path == "-") {
    std::cout << text;
    return;
  }
  std::ofstream out(path);
  out << text;
  out.close();
  if (!out) throw std::runtime_error(fmt::format("{}: cannot be written", path));
}

}  // namespace

int64_t Vcpu::next_run(int64_t now, int64_t start) const {
  const auto period = static_cast<int64_t>(static_cast<double>(slice_ns) / share);
  const int64_t phase = (now - start) % period;
  return phase < slice_ns ? now : now - phase + period;
}

Vcpu parse_vcpu(const std::string& text) {
  const size_t slash = text.find('/');
  Vcpu vcpu;
  try {
    vcpu.slice_ns = static_cast<int64_t>(parse_duration(text.substr(0, slash)));
    vcpu.share = slash == std::string::npos ? 0 : parse_share(text.substr(slash + 1));
  } catch (const std::invalid_argument&) {
    vcpu.share = 0;
  }
  if (vcpu.slice_ns < 1 || vcpu.slice_ns > 1000 * static_cast<int64_t>(kSecond) ||
      vcpu.share < 1e-3)
    throw std::invalid_argument(
        fmt::format("'{}': write SLICE/SHARE, such as 30ms/0.33 or 30ms/33% (slice up to 1000s, "
                    "share from 0.1% to 100%)",
                    text));
  return vcpu;
}

int run_replay(const Options& options) {
  const std::vector<std::string> paths = find_captures(options.paths);
  if (paths.size() != 1 &&
      !(options.pcapng.empty() && options.plot.empty() && options.write_log.empty())) {
    throw std::runtime_error(fmt::format(
        "-w, --plot and --write-log take exactly one capture; there are {}", paths.size()));
  }
  int status = status_fine;
  std::vector<FileResult> files;
  for (const std::string& path : paths) {
    FileResult file = replay_file(options, path);
    if (!file.error.empty()) fmt::print(stderr, "vsnoop: {}\n", file.error);
    status = std::max(status, status_of(file));
    if (file.plan.frames == 0 && !file.error.empty()) continue;
    if (options.json != "-") std::cout << text_report(file, options.flows) << '\n' << std::flush;
    if (!options.plot.empty()) draw_plot(options, file);
    files.push_back(std::move(file));
  }
  if (files.size() > 1 && options.json != "-") std::cout << text_totals(files);
  if (!options.json.empty()) write_json(options.json, files);
  return status;
}

}  // namespace vsnoop::replay
