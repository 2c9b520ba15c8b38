// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Tests that deliberate faults asked for: tests/mutants found that nothing else would see them.
#include "tests/unit/harness.h"

using namespace vsnoop_test;

TEST_CASE("P4: a range that was taken meanwhile is not remembered twice") {
  // Under `ring` a host may report later, when it has asked about other frames.
  Setup setup;
  setup.guest.policy = VSNOOP_POLICY_RING;
  Established c(setup);
  Outcome first = c.ask(data(2001, 1000));
  Outcome again = c.ask(data(2001, 1000));
  CHECK_THAT(first, Pushed(VSNOOP_REASON_above_hole));
  CHECK_THAT(again, Pushed(VSNOOP_REASON_above_hole));
  c.finish(first);
  c.finish(again);
  CHECK(c.flow().holes == 1);
  c.peer(data(1, 2000));
  CHECK(c.flow().rcv_nxt == 3001);
  CHECK(c.flow().holes == 0);
}
