// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/unit/catch.h"
#include "tools/options.h"
#include "tools/units.h"

namespace vsnoop {
namespace {

using vsnoop_test::Contains;

TEST_CASE("Units: sizes") {
  CHECK(parse_size("0") == 0);
  CHECK(parse_size("65536") == 65536);
  CHECK(parse_size("64Ki") == 65536);
  CHECK(parse_size("8Mi") == 8U << 20);
  CHECK(parse_size("1.5Gi") == 3ULL << 29);
  CHECK(parse_size("1.5k") == 1500);
  CHECK(parse_size("2M") == 2'000'000);
  CHECK(parse_size("3G") == 3'000'000'000);
  CHECK(parse_size("1.001k") == 1001);
  CHECK(parse_size("10kB") == 10'000);
  CHECK(parse_size("8MiB") == 8U << 20);
  for (const char* bad : {"", "k", "-1", "1e5", "1 k", " 1", "+1", "1K", "1B", "1kb", "1ki", "nan",
                          "inf", "0x10", "1e", "99999999999999999999"})
    CHECK_THROWS_WITH(parse_size(bad), Contains("'" + std::string(bad) + "' is no size") &&
                                           Contains("k, M, G, Ki, Mi or Gi"));
}

TEST_CASE("Units: lists of sizes") {
  CHECK(parse_sizes("10k") == std::vector<uint64_t>{10'000});
  CHECK(parse_sizes("1M,10k,1.5k") == std::vector<uint64_t>{1'000'000, 10'000, 1500});
  for (const char* bad : {"", "10k,", ",10k", "10k,,1M", "0", "10k,0", "0.1"}) {
    INFO("'" << bad << "'");
    CHECK_THROWS_AS(parse_sizes(bad), std::invalid_argument);
  }
}

TEST_CASE("Units: durations") {
  CHECK(parse_duration("0") == 0);
  CHECK(parse_duration("0us") == 0);
  CHECK(parse_duration("7ns") == 7);
  CHECK(parse_duration("30ms") == 30 * kMillisecond);
  CHECK(parse_duration("1.5s") == 1'500 * kMillisecond);
  CHECK(parse_duration("0.1us") == 100);
  CHECK(parse_duration("2.3us") == 2300);
  for (const char* bad :
       {"", "30", "ms", "-1ms", "1m", "1h", "1 s", "nans", "infs", "1e3s", "2000000000s"})
    CHECK_THROWS_WITH(parse_duration(bad), Contains("'" + std::string(bad) + "' is no time") &&
                                               Contains("such as 30ms"));
}

TEST_CASE("Units: rates are what was written, not the next lower bit") {
  CHECK(parse_rate("1G") == 1'000'000'000);
  CHECK(parse_rate("100M") == 100'000'000);
  CHECK(parse_rate("9600") == 9600);
  CHECK(parse_rate("2.5G") == 2'500'000'000);
  for (uint64_t i = 1; i < 6000; ++i) {
    const std::string number =
        std::to_string(i / 1000) + "." + std::to_string(1000 + i % 1000).substr(1);
    REQUIRE(parse_rate(number + "k") == i);
    REQUIRE(parse_rate(number + "M") == i * 1000);
    REQUIRE(parse_rate(number + "G") == i * 1000000);
  }
  for (const char* bad : {"", "1Gi", "1Gbit", "-1G", "G", "11000G"})
    CHECK_THROWS_WITH(parse_rate(bad),
                      Contains("'" + std::string(bad) + "' is no rate") && Contains("such as 1G"));
}

TEST_CASE("Units: shares") {
  CHECK(parse_share("0") == 0);
  CHECK(parse_share("1") == 1);
  CHECK(parse_share("0.25") == Approx(0.25));
  CHECK(parse_share("1%") == Approx(0.01));
  CHECK(parse_share("100%") == Approx(1));
  for (const char* bad : {"", "%", "1.01", "101%", "-1%", "nan", "1%%"})
    CHECK_THROWS_WITH(parse_share(bad), Contains("'" + std::string(bad) + "' is no share"));
}

TEST_CASE("Options: a complaint is one line with the command's name, the option and the reason") {
  CLI::App app("for a test", "program");
  uint64_t room = 0;
  CLI::App* sub = app.add_subcommand("keep", "something");
  add_parsed(*sub, "--room", room, parse_positive, "8Mi", "for it");
  CHECK(room == 8u << 20);
  const auto complaint = [&](std::vector<std::string> words) -> std::string {
    try {
      app.parse(words);
    } catch (const CLI::ParseError& error) {
      return one_line(&app, error);
    }
    return "none";
  };
  // CLI11 wants them from last to first.
  CHECK(complaint({"16k", "--room", "keep"}) == "none");
  CHECK(room == 16000);
  CHECK(complaint({"0", "--room", "keep"}) ==
        "program keep: --room: a size of 0 makes no sense here (see program keep --help)\n");
  CHECK(room == 16000);
}

}  // namespace
}  // namespace vsnoop
