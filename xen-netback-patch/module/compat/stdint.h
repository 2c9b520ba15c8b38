/* SPDX-License-Identifier: GPL-2.0-only */
/* snoop-core/vsnoop.h asks for the C library's header of this name; the kernel has its own. */
#include <linux/types.h>
