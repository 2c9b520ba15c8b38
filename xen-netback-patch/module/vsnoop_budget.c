// SPDX-License-Identifier: GPL-2.0-only
/* vsnoop in xen-netback: memory, shared out to guests. */
#include "vsnoop_private.h"

#include <linux/moduleparam.h>

DEFINE_MUTEX(vs_all_lock);
LIST_HEAD(vs_all);

static unsigned int vsnoop_total_kib;
module_param(vsnoop_total_kib, uint, 0644);
MODULE_PARM_DESC(vsnoop_total_kib,
		 "KiB that guests' budgets may add up to (0: 5 % of memory, at most 256 MiB)");

/* What is left of the total for this vif; budgets are shared out when a guest is
 * switched on, so that none can take what another was given.
 */
u32 vs_grant_kib(struct xenvif_vsnoop *vs, u32 wanted)
{
	u64 total = READ_ONCE(vsnoop_total_kib);
	struct xenvif_vsnoop *other;
	u64 taken = 0;

	if (!total)
		total = min_t(u64, (u64)totalram_pages() * (PAGE_SIZE >> 10) / 20, 256 << 10);
	mutex_lock(&vs_all_lock);
	list_for_each_entry(other, &vs_all, list)
		if (other != vs)
			taken += other->granted_kib;
	vs->granted_kib = taken < total ? min_t(u64, wanted, total - taken) : 0;
	if (vs->granted_kib < VIF_KIB_LEAST)
		vs->granted_kib = 0;
	mutex_unlock(&vs_all_lock);
	return vs->granted_kib;
}
