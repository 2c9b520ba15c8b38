// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/unit/catch.h"
#include "tools/load/ledger.h"
#include "tools/load/pattern.h"
#include "tools/load/phase.h"

namespace vsnoop::load {
namespace {

std::vector<std::uint8_t> pattern(PatternKey key, std::uint64_t offset, std::size_t size) {
  std::vector<std::uint8_t> bytes(size);
  fill_pattern(key, offset, bytes);
  return bytes;
}

TEST_CASE("load: a pattern does not depend on how it is cut into pieces") {
  const PatternKey key{3, 7};
  const auto whole = pattern(key, 0, 100);
  for (std::size_t begin = 0; begin < whole.size(); ++begin) {
    for (std::size_t end = begin; end <= whole.size(); ++end) {
      const auto piece = pattern(key, begin, end - begin);
      INFO("bytes " << begin << " to " << end);
      REQUIRE(std::equal(piece.begin(), piece.end(), whole.begin() + static_cast<long>(begin)));
      REQUIRE(count_wrong(key, begin, piece) == 0);
    }
  }
}

TEST_CASE("load: bytes of another connection or transfer or place are wrong") {
  const std::size_t size = 8192;
  const auto sent = pattern({1, 1}, 0, size);
  // Unrelated bytes agree by chance once in 256: about 32 of 8192.
  CHECK(count_wrong({2, 1}, 0, sent) > size - 80);
  CHECK(count_wrong({1, 2}, 0, sent) > size - 80);
  CHECK(count_wrong({1, 1}, 1, sent) > size - 80);
  CHECK(count_wrong({1, 1}, 8, sent) > size - 80);
  CHECK(count_wrong({1, 1}, std::uint64_t{1} << 32, sent) > size - 80);
}

TEST_CASE("load: each wrong byte is counted wherever it stands") {
  const PatternKey key{0, 0};
  for (std::uint64_t offset = 0; offset < 8; ++offset) {
    for (std::size_t at = 0; at < 40; ++at) {
      auto bytes = pattern(key, offset, 40);
      bytes[at] ^= 0x10;
      INFO("offset " << offset << ", byte " << at);
      REQUIRE(count_wrong(key, offset, bytes) == 1);
      bytes[(at + 1) % 40] ^= 0x01;
      REQUIRE(count_wrong(key, offset, bytes) == 2);
    }
  }
}

TEST_CASE("load: the ledger finishes a transfer with its last byte however it was read") {
  Ledger ledger;
  ledger.announce(40000, 5);
  REQUIRE(ledger.connection_of(40000) == 5u);
  REQUIRE_FALSE(ledger.connection_of(40001).has_value());
  ledger.expect({5, 1}, 100);
  ledger.expect({5, 2}, 50);
  auto stream = pattern({5, 1}, 0, 100);
  const auto second = pattern({5, 2}, 0, 50);
  stream.insert(stream.end(), second.begin(), second.end());
  const std::span<const std::uint8_t> bytes(stream);

  ledger.read(5, bytes.first(99), 10);
  CHECK(ledger.wait({5, 1}, 0).finished_ns == 0);
  ledger.read(5, bytes.subspan(99, 31), 20);
  const Receipt first = ledger.wait({5, 1}, 0);
  CHECK(first.finished_ns == 20);
  CHECK(first.right == 100);
  CHECK(first.wrong == 0);
  CHECK(ledger.wait({5, 2}, 0).right == 30);
  CHECK(ledger.wait({5, 2}, 0).finished_ns == 0);
  ledger.read(5, bytes.subspan(130), 30);
  CHECK(ledger.wait({5, 2}, 0).finished_ns == 30);
  CHECK(ledger.wait({5, 2}, 0).right == 50);
  CHECK(ledger.stray() == 0);
}

TEST_CASE("load: the ledger tells wrong and missing and stray bytes apart") {
  Ledger ledger;
  ledger.announce(40000, 0);
  ledger.expect({0, 1}, 16);
  auto bytes = pattern({0, 1}, 0, 16);
  bytes[3] ^= 0xff;
  bytes.push_back(0x55);  // nobody sent this one
  ledger.read(0, bytes, 10);
  const Receipt receipt = ledger.wait({0, 1}, 0);
  CHECK(receipt.right == 15);
  CHECK(receipt.wrong == 1);
  CHECK(ledger.stray() == 1);

  ledger.expect({0, 2}, 16);
  ledger.read(0, pattern({0, 2}, 0, 4), 20);
  ledger.ended(0);
  CHECK(ledger.wait({0, 2}, 0).cut);
  CHECK(ledger.wait({0, 2}, 0).right == 4);
  CHECK_FALSE(ledger.wait({0, 1}, 0).cut);
  ledger.expect({0, 3}, 16);
  CHECK(ledger.wait({0, 3}, 0).cut);
}

TEST_CASE("load: who waits for a transfer is woken by its last byte") {
  Ledger ledger;
  ledger.announce(40000, 0);
  ledger.expect({0, 1}, 16);
  std::thread guest([&] { ledger.read(0, pattern({0, 1}, 0, 16), 42); });
  const auto hour = std::chrono::steady_clock::now() + std::chrono::hours(1);
  const Receipt receipt = ledger.wait(
      {0, 1},
      std::chrono::duration_cast<std::chrono::nanoseconds>(hour.time_since_epoch()).count());
  guest.join();
  CHECK(receipt.finished_ns == 42);
}

TEST_CASE("load: random phases cover the period evenly and follow from the seed alone") {
  const std::int64_t period = 90'000'000;
  const std::size_t count = 20;
  const auto phases = random_phases(1, count, period);
  CHECK(phases == random_phases(1, count, period));
  CHECK(phases != random_phases(2, count, period));
  CHECK_FALSE(std::is_sorted(phases.begin(), phases.end()));
  auto sorted = phases;
  std::sort(sorted.begin(), sorted.end());
  REQUIRE(sorted.size() == count);
  CHECK(sorted.front() >= 0);
  CHECK(sorted.front() < period / 20);
  for (std::size_t i = 1; i < count; ++i) {
    INFO("phase " << i);
    CHECK(std::abs(sorted[i] - sorted[i - 1] - period / 20) <= 1);
  }
  CHECK(random_phases(2, 1, period) != random_phases(3, 1, period));
  CHECK(random_phases(1, 3, 0) == std::vector<std::int64_t>{0, 0, 0});
}

TEST_CASE("load: the next start at a phase is the earliest one that is not past") {
  CHECK(next_at_phase(1000, 90, 30, 1000) == 1030);
  CHECK(next_at_phase(1000, 90, 30, 1030) == 1030);
  CHECK(next_at_phase(1000, 90, 30, 1031) == 1120);
  CHECK(next_at_phase(1000, 90, 0, 1089) == 1090);
  CHECK(next_at_phase(1000, 90, 89, 5000) == 5049);
  CHECK(next_at_phase(1000, 0, 0, 5000) == 5000);
}

}  // namespace
}  // namespace vsnoop::load
