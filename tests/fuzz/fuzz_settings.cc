// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// A vif's key in xenstore as any text, to the module's own parser: what it takes is what the manual
// says, to the letter, and nothing else.
#include "tests/fuzz/settings_module.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "snoop-core/vsnoop.h"
#include "tests/fuzz/bytes.h"

namespace {

// The number of "KEY=NUMBER"; -1: it is none, or out of range.
int64_t number(std::string_view word, std::string_view key, int64_t least) {
  if (word.substr(0, key.size()) != key) return -1;
  word.remove_prefix(key.size());
  if (word.empty() || word.find_first_not_of("0123456789") != word.npos) return -1;
  word.remove_prefix(std::min(word.find_first_not_of('0'), word.size()));
  if (word.size() > 9) return -1;
  const int64_t value = std::atoll(std::string(word).c_str());
  return value >= least && value <= VIF_KIB_MOST ? value : -1;
}

// As the manual has it; false: not a setting.
bool read(std::string_view text, vs_settings& set) {
  set = {VSNOOP_POLICY_OFF, VSNOOP_ENGAGE_ALWAYS, true, VIF_KIB_DEFAULT, FLOW_KIB_DEFAULT};
  bool first = true;
  for (bool more = true; more; first = false) {
    const size_t comma = text.find(',');
    more = comma != text.npos;
    const std::string_view word = text.substr(0, comma);
    if (more) text.remove_prefix(comma + 1);
    if (first) {
      if (word == "ring")
        set.policy = VSNOOP_POLICY_RING;
      else if (word == "hold")
        set.policy = VSNOOP_POLICY_HOLD;
      else if (word != "off" && !word.empty())
        return false;
    } else if (const int64_t vif = number(word, "vif_kib=", VIF_KIB_LEAST); vif >= 0) {
      set.vif_kib = static_cast<uint32_t>(vif);
    } else if (const int64_t flow = number(word, "flow_kib=", FLOW_KIB_LEAST); flow >= 0) {
      set.flow_kib = static_cast<uint32_t>(flow);
    } else if (word == "early_sack=0" || word == "early_sack=1") {
      set.early_sack = word.back() == '1';
    } else if (word == "engage=always" || word == "engage=auto") {
      set.engage = word == "engage=auto" ? VSNOOP_ENGAGE_AUTO : VSNOOP_ENGAGE_ALWAYS;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A block of its own: a sanitizer sees what is read or written past its end.
  std::vector<char> text(data, data + size);
  text.push_back(0);
  const std::string before = text.data();
  vs_settings set, wanted;
  const char* wrong = vs_parse_settings(text.data(), &set);
  const bool fine = read(before, wanted);
  FUZZ_CHECK(fine == !wrong, "taken, or refused, against the manual");
  if (wrong) {
    FUZZ_CHECK(wrong >= text.data() && wrong < text.data() + text.size(), "which word");
    return 0;
  }
  FUZZ_CHECK(set.policy == wanted.policy && set.engage == wanted.engage &&
                 set.early_sack == wanted.early_sack && set.vif_kib == wanted.vif_kib &&
                 set.flow_kib == wanted.flow_kib,
             "another setting than the manual's");
  return 0;
}
