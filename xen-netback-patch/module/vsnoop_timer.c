// SPDX-License-Identifier: GPL-2.0-only
/* vsnoop in xen-netback: timers, and whom to wake. */
#include "vsnoop_private.h"

/* While frames are in the ring: how often to look whether they were picked up. */
#define RING_INTERVAL max(HZ / 50, 1)
#define TIMER_MOST_US 10000000
#define IDLE_INTERVAL ((unsigned long)HZ / 4)
#define URGENT_US 5000

/* When the engine wants to be called. Where nothing is held there is only its
 * housekeeping, for which an idle vif need not be woken each time it could be.
 */
static unsigned long engine_wait(const struct xenvif_vsnoop *vs, u64 now)
{
	const struct vsnoop_guest_stats *stats = vsnoop_stats(vs->engine, 0);
	const u64 due = vsnoop_deadline(vs->engine);
	unsigned long wait;

	if (due == U64_MAX)
		return MAX_JIFFY_OFFSET;
	wait = 1 + usecs_to_jiffies(due > now ? min_t(u64, due - now, TIMER_MOST_US) : 0);
	if (!stats->held && !stats->outstanding && due > now + URGENT_US)
		wait = max(wait, IDLE_INTERVAL);
	return wait;
}

void vs_arm_timer(struct xenvif_vsnoop *vs, u64 now)
{
	unsigned long wait = engine_wait(vs, now);
	unsigned int i;

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
	struct xenvif_vsnoop *vs = timer_container_of(vs, timer, timer);
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
		vs_budget_press(vs);
	}
	spin_unlock(&vs->lock);
	vs_free(vs->vif, released);
}
