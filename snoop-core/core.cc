// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// The core as one translation unit: that is how it goes into a kernel module (no COMDAT, nothing
// but the C face visible), so that is how every host builds it.
#define VSNOOP_ONE_UNIT
#include "snoop-core/custody.cc"
#include "snoop-core/edit.cc"
#include "snoop-core/emit.cc"
#include "snoop-core/engine.cc"
#include "snoop-core/face.cc"
#include "snoop-core/from_guest.cc"
#include "snoop-core/from_peer.cc"
#include "snoop-core/learn.cc"
#include "snoop-core/life.cc"
#include "snoop-core/narrow.cc"
#include "snoop-core/promise.cc"
#include "snoop-core/segment.cc"
