// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string_view>

#include "tools/replay/output.h"
#include "tools/replay/pcapng.h"
#include "tools/replay/plot.h"
#include "tools/replay/replay.h"
#include "tools/replay/report.h"
#include "tools/replay/what_if.h"
#include "tools/units.h"

namespace vsnoop::replay {
namespace {

// How far it is, on standard error, for people only and only when it takes long.
class Progress {
 public:
  // `passes` times `size` bytes will be read.
  Progress(std::string name, uint64_t size, uint64_t passes)
      : name_(std::move(name)),
        size_(std::max<uint64_t>(1, size)),
        passes_(passes),
        on_(isatty(STDERR_FILENO) != 0) {}
  ~Progress() {
    if (shown_) fmt::print(stderr, "\r\033[K");
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void next_pass() { pass_++; }
  void update(uint64_t position) {
    const auto now = Clock::now();
    if (!on_ || now < next_) return;
    next_ = now + std::chrono::milliseconds(200);
    shown_ = true;
    const double share =
        (static_cast<double>(pass_) +
         static_cast<double>(std::min(position, size_)) / static_cast<double>(size_)) /
        static_cast<double>(passes_);
    const double spent = std::chrono::duration<double>(now - start_).count();
    const auto left = static_cast<uint64_t>(spent / std::max(share, 1e-6) * (1 - share) + 0.5);
    fmt::print(stderr, "\r{:<30.30} [{:<30}] {:3} %, {}:{:02} left\033[K", name_,
               std::string(static_cast<size_t>(share * 30), '#'),
               static_cast<unsigned>(share * 100), left / 60, left % 60);
    std::fflush(stderr);
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::string name_;
  uint64_t size_, passes_, pass_ = 0;
  bool on_, shown_ = false;
  Clock::time_point start_ = Clock::now(), next_ = start_ + std::chrono::milliseconds(500);
};

// x.pcap, X.PCAP, x.pcapng.gz, and what tcpdump and rotation make of it: x.pcap0, x.pcap.1
bool is_capture_name(const std::filesystem::path& path) {
  std::string name = path.filename().string();
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto strip_digits = [&name] {
    while (!name.empty() && std::isdigit(static_cast<unsigned char>(name.back()))) name.pop_back();
  };
  for (const std::string_view packed : {".gz", ".bz2", ".xz", ".zst", ".lz4"}) {
    if (name.ends_with(packed)) name.resize(name.size() - packed.size());
  }
  strip_digits();
  if (name.ends_with('.')) name.pop_back();
  strip_digits();
  return name.ends_with(".pcap") || name.ends_with(".pcapng") || name.ends_with(".cap");
}

std::vector<std::string> find_captures(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  for (const std::string& path : paths) {
    std::error_code error;
    if (path == "-" || !std::filesystem::is_directory(path, error)) {
      files.push_back(path);
      continue;
    }
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(
             path, std::filesystem::directory_options::skip_permission_denied)) {
      if (entry.is_regular_file(error) && is_capture_name(entry.path())) {
        found.push_back(entry.path().string());
      }
    }
    if (found.empty()) {
      throw std::runtime_error(
          fmt::format("{}: no *.pcap, *.pcapng or *.cap in this directory", printable(path)));
    }
    std::sort(found.begin(), found.end());
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

// What a run writes, but for the text.
struct Outputs {
  std::optional<Output> json, pcapng, log, plot;
  explicit Outputs(const Options& options) {
    open(json, options.json);
    open(pcapng, options.pcapng);
    open(log, options.write_log);
    open(plot, options.plot);
  }
  void commit() {
    for (auto* output : {&json, &pcapng, &log, &plot}) {
      if (*output) (*output)->commit();
    }
  }

 private:
  static void open(std::optional<Output>& output, const std::string& path) {
    if (!path.empty()) output.emplace(path);
  }
};

void check(const Options& options, const std::vector<std::string>& paths) {
  std::vector<std::string> outputs;
  for (const std::string* path :
       {&options.json, &options.pcapng, &options.write_log, &options.plot}) {
    if (!path->empty()) outputs.push_back(*path);
  }
  check_outputs(paths, outputs);
  if (paths.size() != 1 &&
      !(options.pcapng.empty() && options.plot.empty() && options.write_log.empty())) {
    throw std::runtime_error(fmt::format(
        "-w, --plot and --write-log take exactly one capture; there are {}", paths.size()));
  }
  if ((options.pcapng == "-" || options.write_log == "-") && isatty(STDOUT_FILENO)) {
    throw std::runtime_error("standard output is a terminal; name a file or a pipe");
  }
}

class Run {
 public:
  explicit Run(const Options& options)
      : options_(options),
        outputs_(options),
        // Text and an output cannot share standard output.
        text_(options.pcapng == "-" || options.write_log == "-" || options.plot == "-"
                  ? std::cerr
                  : std::cout) {
    if (outputs_.json) json_.emplace(outputs_.json->file());
  }
  // The exit status.
  int file(const std::string& path);
  void finish();

 private:
  void replay(const std::shared_ptr<const Source>& source, FileResult& result,
              const std::vector<Observer*>& observers, FILE* log, Progress& progress,
              const std::function<void(const FlowEnd&)>& on_end) const;
  void draw(const Plot& plot, const FlowEnd& flow);

  const Options& options_;
  Outputs outputs_;
  std::ostream& text_;
  std::optional<JsonReport> json_;
  Totals totals_;
  size_t files_ = 0;
};

// One pass over what the plan could read.
void Run::replay(const std::shared_ptr<const Source>& source, FileResult& result,
                 const std::vector<Observer*>& observers, FILE* log, Progress& progress,
                 const std::function<void(const FlowEnd&)>& on_end) const {
  progress.next_pass();
  CaptureReader reader(source);
  WhatIf what_if(options_, result, observers, log, on_end);
  CapturedFrame frame;
  for (uint64_t n = 0; n < result.plan.frames && reader.next(frame); n++) {
    what_if.frame(frame);
    if (n % 1024 == 0) progress.update(reader.position());
  }
  what_if.finish();
}

void Run::draw(const Plot& plot, const FlowEnd& flow) {
  plot.draw(outputs_.plot->file(), fmt::format("flow {}: {} → {}", flow.number + 1,
                                               to_text(flow.peer.address, flow.peer.port),
                                               to_text(flow.guest.address, flow.guest.port)));
}

int Run::file(const std::string& path) {
  FileResult result;
  std::shared_ptr<const Source> source;
  std::optional<Progress> progress;
  try {
    source = std::make_shared<const Source>(path);
    const uint64_t passes = options_.plot.empty() || options_.plot_flow ? 2 : 3;
    progress.emplace(source->name(), source->size(), passes);
    result.plan = make_plan(source, options_.guests,
                            [&progress](uint64_t position) { progress->update(position); });
    result.error = result.plan.error;
  } catch (const CaptureError& error) {
    result.error = error.what();
  }
  if (!result.error.empty() && result.plan.frames == 0) {
    progress.reset();
    fmt::print(stderr, "vsnoop: {}\n", result.error);
    return status_unreadable;
  }
  result.name = source->name();

  std::vector<Observer*> observers;
  std::optional<CaptureWithAcks> writer;
  if (outputs_.pcapng) observers.push_back(&writer.emplace(outputs_.pcapng->file()));
  std::optional<Plot> plot;
  if (outputs_.plot && options_.plot_flow) {
    observers.push_back(&plot.emplace(options_.plot_flow - 1));
  }
  Totals totals;
  TopFlows top(std::max<size_t>(1, options_.flows));
  std::optional<FlowEnd> named;
  if (json_) json_->begin_file();
  replay(source, result, observers, outputs_.log ? outputs_.log->file() : nullptr, *progress,
         [&](const FlowEnd& flow) {
           totals.add(flow.result);
           top.add(flow);
           if (json_) json_->flow(flow);
           if (flow.number + 1 == options_.plot_flow && flow.has_guest) named = flow;
         });
  totals.unverified = result.unverified;
  totals.violations = result.violation_count;
  totals_.add(totals);
  files_++;
  const std::vector<FlowEnd> best = top.sorted();
  if (outputs_.plot && !plot) {
    if (!best.empty() && best[0].has_guest) named = best[0];
    if (named) {
      plot.emplace(named->number);
      FileResult again;
      again.plan = result.plan;
      replay(source, again, {&*plot}, nullptr, *progress, [](const FlowEnd&) {});
    }
  }
  progress.reset();
  if (!result.error.empty()) fmt::print(stderr, "vsnoop: {}\n", result.error);
  if (json_) json_->end_file(result, totals);
  if (options_.json != "-") {
    text_ << text_report(result, totals, best, options_.flows) << '\n' << std::flush;
  }
  if (outputs_.plot) {
    if (!named) {
      throw std::runtime_error(
          options_.plot_flow
              ? fmt::format("--flow {}: {} has {} connections, and that is none with a guest",
                            options_.plot_flow, result.name, result.plan.connections)
              : fmt::format("--plot: {} has no connection with a guest", result.name));
    }
    draw(*plot, *named);
  }
  if (result.violation_count) return status_violation;
  if (totals.oracle.fates[static_cast<size_t>(Fate::broken)].early_acks) return status_broken;
  return result.error.empty() ? status_fine : status_unreadable;
}

void Run::finish() {
  if (files_ > 1 && options_.json != "-") text_ << text_totals(files_, totals_);
  if (!text_.flush()) throw std::runtime_error("standard output: could not be written wholly");
  if (json_) json_->finish(totals_);
  outputs_.commit();
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
  check(options, paths);
  Run run(options);
  int status = status_fine;
  for (const std::string& path : paths) status = std::max(status, run.file(path));
  run.finish();
  return status;
}

}  // namespace vsnoop::replay
