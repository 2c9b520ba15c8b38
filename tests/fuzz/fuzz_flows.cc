// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// debugfs's list of flows as any bytes: text that a terminal shows as it is, JSON that parses.
#include "tests/fuzz/shown.h"
#include "tools/xen/report.h"

using namespace vsnoop::xen;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string file(reinterpret_cast<const char*>(data), size);
  Vif vif;
  vif.domain = 3;
  const std::string text = flows_text(vif, file);
  const auto lines = static_cast<size_t>(std::count(file.begin(), file.end(), '\n')) +
                     (!file.empty() && file.back() != '\n');
  vsnoop_fuzz::check_shown(text, 1 + lines);
  const Json json = Json::parse(json_text(flows_json(vif, file), 2));
  FUZZ_CHECK(json["flows"].size() == (lines ? lines - 1 : 0), "a flow for each line");
  return 0;
}
