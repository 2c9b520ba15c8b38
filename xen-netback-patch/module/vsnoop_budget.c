// SPDX-License-Identifier: GPL-2.0-only
/*
 * vsnoop in xen-netback: memory, lent to guests by use.
 *
 * The total bounds what all vifs that are switched on take together: each one's engine,
 * its copies for re-delivery, and its limit, which is the budget that its engine works
 * with. A limit is at least a floor and at most what the vif's setting says. While there
 * is enough, who uses most of its limit gets twice as much; when there is not, those who
 * use little give back, and the rest is shared evenly. A limit may go below what is in
 * use: then nothing is promised until the guest has drained to it, and as long as it has
 * not, what it uses counts.
 */
#include "vsnoop_private.h"

#include <linux/moduleparam.h>

DEFINE_MUTEX(vs_all_lock);	/* vs_all, and who has what */
LIST_HEAD(vs_all);

static void share(struct work_struct *work);
static DECLARE_DELAYED_WORK(share_work, share);

static unsigned int vsnoop_total_kib;

static int set_total(const char *text, const struct kernel_param *param)
{
	int err = param_set_uint(text, param);

	if (err)
		return err;
	mutex_lock(&vs_all_lock);
	if (!list_empty(&vs_all))
		mod_delayed_work(system_wq, &share_work, 0);
	mutex_unlock(&vs_all_lock);
	return 0;
}

static const struct kernel_param_ops total_ops = {
	.set = set_total,
	.get = param_get_uint,
};
module_param_cb(vsnoop_total_kib, &total_ops, &vsnoop_total_kib, 0644);
MODULE_PARM_DESC(vsnoop_total_kib,
		 "KiB that all guests may take together (0: 5 % of memory, at most 256 MiB)");

/* Every guest that is switched on has so much, if its setting is not less. */
#define FLOOR_KIB VIF_KIB_LEAST
#define SHARE_INTERVAL (HZ / 4)

u32 vs_budget_total(void)
{
	const u32 total = READ_ONCE(vsnoop_total_kib);

	return total ?: min_t(u64, (u64)totalram_pages() * (PAGE_SIZE >> 10) / 20, 256 << 10);
}

static u32 floor_of(const struct xenvif_vsnoop *vs)
{
	return min_t(u32, vs->want_kib, FLOOR_KIB);
}

/* What counts against the total for one that has @limit_kib. */
static u32 taken_by(const struct xenvif_vsnoop *vs, u32 limit_kib)
{
	return vs->fixed_kib + max(limit_kib, vs->used_kib);
}

static void note_use(struct xenvif_vsnoop *vs)
{
	spin_lock_bh(&vs->lock);
	vs->used_kib = vs->engine ? vsnoop_stats(vs->engine, 0)->used >> 10 : 0;
	spin_unlock_bh(&vs->lock);
}

/* What it would have if there were enough; @short_of: there is not. */
static u32 need_of(const struct xenvif_vsnoop *vs, bool short_of)
{
	if (!vs->limit_kib)
		return floor_of(vs);
	if (vs->used_kib > vs->limit_kib / 4 * 3)
		return min(vs->want_kib, 2 * vs->limit_kib);
	return short_of ? clamp(2 * vs->used_kib, floor_of(vs), vs->limit_kib) : vs->limit_kib;
}

/* The most that anybody may have so that all of @pool_kib is used: who needs less
 * leaves the rest to the others.
 */
static u32 even_share(u32 pool_kib)
{
	u32 level = 0, next, left;
	struct xenvif_vsnoop *vs;
	unsigned int more;
	int turn;

	for (turn = 0; turn < 16; turn++) {
		left = pool_kib;
		more = 0;
		list_for_each_entry(vs, &vs_all, list) {
			if (!vs->want_kib)
				continue;
			if (turn && need_of(vs, true) <= level)
				left -= min(left, need_of(vs, true));
			else
				more++;
		}
		if (!more)
			return U32_MAX;
		next = left / more;
		if (turn && next == level)
			break;
		level = next;
	}
	return level;
}

static void set_limit(struct xenvif_vsnoop *vs, u32 limit_kib)
{
	const bool first = !vs->limit_kib;

	if (limit_kib == vs->limit_kib)
		return;
	WRITE_ONCE(vs->limit_kib, limit_kib);
	if (first)
		mod_delayed_work(system_wq, &vs->work, 0);
	else
		vs_set_budget(vs);
}

/* Shares out the total. Returns whether somebody wants more than there is, or has more
 * than it should.
 */
static bool share_out(void)
{
	const u32 total = vs_budget_total();
	u32 level = U32_MAX, fixed = 0, taken = 0, needed = 0, limit;
	struct xenvif_vsnoop *vs;
	bool again = false;

	list_for_each_entry(vs, &vs_all, list) {
		if (!vs->want_kib)
			continue;
		note_use(vs);
		fixed += vs->fixed_kib;
		needed += taken_by(vs, need_of(vs, false));
	}
	if (needed > total) {
		again = true;
		level = even_share(total > fixed ? total - fixed : 0);
	}
	/* First those who give back, then the others as far as there is room. */
	list_for_each_entry(vs, &vs_all, list) {
		if (!vs->want_kib)
			continue;
		limit = max(min(need_of(vs, level != U32_MAX), level), floor_of(vs));
		if (vs->limit_kib && limit < vs->limit_kib)
			set_limit(vs, limit);
		if (vs->limit_kib)
			taken += taken_by(vs, vs->limit_kib);
	}
	list_for_each_entry(vs, &vs_all, list) {
		u32 before, room;

		if (!vs->want_kib)
			continue;
		limit = max(min(need_of(vs, level != U32_MAX), level), floor_of(vs));
		before = vs->limit_kib ? taken_by(vs, vs->limit_kib) : 0;
		room = total > taken - before ? total - (taken - before) : 0;
		room = room > vs->fixed_kib ? room - vs->fixed_kib : 0;
		limit = min(limit, room);
		if (limit > vs->limit_kib && limit >= floor_of(vs)) {
			set_limit(vs, limit);
			taken += taken_by(vs, limit) - before;
		}
		again |= !vs->limit_kib || vs->used_kib > vs->limit_kib ||
			 (vs->limit_kib < vs->want_kib && vs->used_kib > vs->limit_kib / 4 * 3);
	}
	return again;
}

static void share(struct work_struct *work)
{
	mutex_lock(&vs_all_lock);
	if (share_out())
		schedule_delayed_work(&share_work, SHARE_INTERVAL);
	mutex_unlock(&vs_all_lock);
}

/* What a vif that uses most of its limit might have beyond it; 0: it waits for nothing. Under
 * the vsnoop lock.
 */
u32 vs_budget_short(const struct xenvif_vsnoop *vs)
{
	const u32 limit = READ_ONCE(vs->limit_kib), want = READ_ONCE(vs->want_kib);

	return limit < want && vsnoop_stats(vs->engine, 0)->used >> 10 > limit / 4 * 3 ?
	       want - limit : 0;
}

void vs_budget_press(struct xenvif_vsnoop *vs)
{
	if (vs_budget_short(vs))
		schedule_delayed_work(&share_work, 0);
}

/* It is switched on, or wants another budget. @fixed_kib: what it takes whatever it
 * holds. Returns its limit; 0: it has to wait, and is configured anew when there is room.
 */
u32 vs_budget_join(struct xenvif_vsnoop *vs, u32 want_kib, u32 fixed_kib)
{
	struct xenvif_vsnoop *other;
	u32 taken = fixed_kib, free;

	mutex_lock(&vs_all_lock);
	vs->want_kib = want_kib;
	vs->fixed_kib = fixed_kib;
	note_use(vs);
	vs->limit_kib = min(vs->limit_kib, want_kib);
	if (!vs->limit_kib) {
		list_for_each_entry(other, &vs_all, list) {
			if (other == vs || !other->want_kib || !other->limit_kib)
				continue;
			note_use(other);
			taken += taken_by(other, other->limit_kib);
		}
		free = vs_budget_total() > taken ? vs_budget_total() - taken : 0;
		/* Half of what is free, for others may come. */
		free = free / 2 >= floor_of(vs) ? free / 2 : free;
		vs->limit_kib = free >= floor_of(vs) ? min(want_kib, free) : 0;
	}
	if (vs->limit_kib < want_kib)
		schedule_delayed_work(&share_work, SHARE_INTERVAL);
	mutex_unlock(&vs_all_lock);
	return vs->limit_kib;
}

/* Its engine is gone. */
void vs_budget_leave(struct xenvif_vsnoop *vs)
{
	mutex_lock(&vs_all_lock);
	if (vs->want_kib && !list_empty(&vs_all))
		schedule_delayed_work(&share_work, 0);
	vs->want_kib = 0;
	vs->limit_kib = 0;
	vs->used_kib = 0;
	mutex_unlock(&vs_all_lock);
}

/* How many share the total, for whoever waits. */
unsigned int vs_budget_sharers(u32 *total)
{
	struct xenvif_vsnoop *vs;
	unsigned int sharers = 0;

	mutex_lock(&vs_all_lock);
	*total = vs_budget_total();
	list_for_each_entry(vs, &vs_all, list)
		sharers += vs->limit_kib != 0;
	mutex_unlock(&vs_all_lock);
	return sharers;
}

/* A vif has gone for good. The last one takes the work along: the module may go next. */
void vs_budget_exit(void)
{
	bool last;

	mutex_lock(&vs_all_lock);
	last = list_empty(&vs_all);
	mutex_unlock(&vs_all_lock);
	if (last)
		cancel_delayed_work_sync(&share_work);
}
