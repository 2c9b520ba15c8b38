// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// ns-3's test runner, for a build outside of its tree: --list, --suite=NAME, --verbose.
#include "ns3/test.h"

int
main(int argc, char* argv[])
{
    return ns3::TestRunner::Run(argc, argv);
}
