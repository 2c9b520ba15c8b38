// SPDX-License-Identifier: GPL-2.0-only
/* vsnoop in xen-netback: timers, and whom to wake. */
#include "vsnoop_private.h"

/* While frames are in the ring: how often to look whether they were picked up. */
#define RING_INTERVAL max(HZ / 50, 1)
#define TIMER_MOST_US 10000000

void vs_arm_timer(struct xenvif_vsnoop *vs, u64 now)
{
	const u64 due = vsnoop_deadline(vs->engine);
	unsigned long wait = MAX_JIFFY_OFFSET;
	unsigned int i;

	if (due != U64_MAX)
		wait = 1 + usecs_to_jiffies(due > now ? min_t(u64, due - now, TIMER_MOST_US) : 0);
	for (i = 0; vs->connected && i < vs->vif->num_queues; i++)
		if (!skb_queue_empty(&vs->queues[i].in_ring))
			wait = min_t(unsigned long, wait, RING_INTERVAL);
	if (wait == MAX_JIFFY_OFFSET)
		return;
	if (!timer_pending(&vs->timer) || time_before(jiffies + wait, vs->timer.expires))
		mod_timer(&vs->timer, jiffies + wait);
}

/* Has a poll send what is owed; needs bottom halves off, to be run when they
 * come on again.
 */
void vs_wake(struct xenvif_vsnoop *vs, struct xenvif_queue *queue, u64 now)
{
	if (vs->connected && vsnoop_owes(vs->engine))
		napi_schedule(&queue->napi);
	if (!timer_pending(&vs->timer))
		vs_arm_timer(vs, now);
}

void vs_run_timer(struct timer_list *timer)
{
	struct xenvif_vsnoop *vs = from_timer(vs, timer, timer);
	struct vsnoop_held *released = NULL;
	u64 now;

	spin_lock(&vs->lock);
	if (vs->engine) {
		now = vs_now();
		released = vs_reap_all(vs, now);
		if (vsnoop_deadline(vs->engine) <= now)
			released = vs_chain(released, vsnoop_tick(vs->engine, now));
		released = vs_chain(released, vs_feed(vs, now));
		if (vs->connected && vsnoop_owes(vs->engine))
			napi_schedule(&vs->vif->queues[0].napi);
		vs_arm_timer(vs, now);
	}
	spin_unlock(&vs->lock);
	vs_free(vs->vif, released);
}
