// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The flow table as a kernel builds it, without vector registers.
#define VSNOOP_ONE_UNIT
#define VSNOOP_NO_VECTORS
#define FLOW_TABLE_TEST(name) TEST_CASE("flow table, scalar: " name, "[flowtable]")
#include "tests/unit/flowtable/test_flow_table.cc"
