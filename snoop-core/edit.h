// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "flowtable/host.h"
#include "snoop-core/vsnoop.h"

VSNOOP_BEGIN

/// See vsnoop_apply_edit() and vsnoop_trim() in vsnoop.h.
bool apply_edit(u8* frame, u32 captured, const vsnoop_edit& edit, bool partial);
u32 trim(u8* frame, u32 length, u32 skip, u32 keep, bool partial);

VSNOOP_END
