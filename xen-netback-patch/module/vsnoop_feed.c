// SPDX-License-Identifier: GPL-2.0-only
/* vsnoop in xen-netback: from custody into the guest's ring, and what it picks up there. */
#include "vsnoop_private.h"

#include "vsnoop_trace.h"

/* Custody bytes on one rx_queue: the rest waits in the flows' own backlogs, so
 * that others find room and an ACK for what waits still finds it cheap to free.
 */
#define FEED_BYTES (128u << 10)
/* A ring that does not move for so long gets nothing more, else netback would
 * take the guest for stalled and switch the carrier off.
 */
#define PARK_AFTER (2 * HZ)
/* Slots of a frame that hold no data: GSO, hash. */
#define EXTRA_SLOTS 2

/* Frees a list that the engine handed back. Not under the lock. */
void vs_free(struct xenvif *vif, struct vsnoop_held *held)
{
	while (held) {
		struct sk_buff *skb = vs_skb(held);

		held = held->next;
		trace_vsnoop_release(vif, skb->len);
		consume_skb(skb);
	}
}

struct vsnoop_held *vs_chain(struct vsnoop_held *list, struct vsnoop_held *more)
{
	struct vsnoop_held *last = more;

	if (!more)
		return list;
	while (last->next)
		last = last->next;
	last->next = list;
	return more;
}

static struct xenvif_queue *queue_for(struct xenvif_vsnoop *vs, const struct sk_buff *skb)
{
	return &vs->vif->queues[skb_get_queue_mapping(skb) % vs->vif->num_queues];
}

/* The ring has not moved for a while and has no room for a frame of @length. */
static bool parked(const struct xenvif_queue *queue, unsigned int length)
{
	const RING_IDX free = READ_ONCE(queue->rx.sring->req_prod) - READ_ONCE(queue->rx.req_cons);

	return free < DIV_ROUND_UP(length, XEN_PAGE_SIZE) + EXTRA_SLOTS &&
	       time_after(jiffies, READ_ONCE(queue->last_rx_time) + PARK_AFTER);
}

/*
 * What enters the ring for @feed. A new header may be written over the old one:
 * it only ever gets newer. A part is a copy, because the whole may be wanted
 * again. NULL: no memory; it waits aside for a while.
 */
static struct sk_buff *prepare(struct xenvif_vsnoop *vs, const struct vsnoop_feed *feed)
{
	struct sk_buff *skb = vs_skb(feed->held);
	const bool partial = skb->ip_summed == CHECKSUM_PARTIAL;
	const bool cut = feed->skip || feed->keep != feed->held->length;
	u32 length;

	if (cut) {
		struct sk_buff *copy = NULL;

		if (vs->copies + skb->len <= COPIES_MOST)
			copy = skb_copy(skb, GFP_ATOMIC | __GFP_NOWARN);
		if (!copy)
			return NULL;
		vs->copies += copy->truesize;
		length = vsnoop_trim(copy->data, copy->len, feed->skip, feed->keep, partial);
		if (length)
			skb_trim(copy, length);
		if (skb_is_gso(copy) && feed->keep <= skb_shinfo(copy)->gso_size)
			skb_gso_reset(copy);
		vs_cb(copy)->kind = feed->retain && !feed->more ? XENVIF_VSNOOP_COPY
								: XENVIF_VSNOOP_PIECE;
		vs_cb(copy)->whole = skb;
		skb = copy;
	} else {
		if (feed->edit.what &&
		    skb_ensure_writable(skb, min_t(u32, skb->len, HEADERS_FROM_PEER)))
			return NULL;
		vs_cb(skb)->kind = feed->retain ? XENVIF_VSNOOP_HELD : XENVIF_VSNOOP_QUEUED;
	}
	if (feed->edit.what)
		vsnoop_apply_edit(skb->data, skb_headlen(skb), &feed->edit, partial);
	return skb;
}

static bool full(const struct xenvif_vsnoop *vs, const struct xenvif_queue *queue,
		 unsigned int length)
{
	return vs->queues[queue->id].queued_bytes >= FEED_BYTES || parked(queue, length) ||
	       READ_ONCE(queue->rx_queue_len) >= queue->rx_queue_max;
}

/* Flows whose queue is full wait aside: a virtual CPU that does not run must not keep
 * the others from what is theirs.
 */
static void set_aside(struct xenvif_vsnoop *vs, struct vs_queue *vq, unsigned int id,
		      const struct vsnoop_feed *feed)
{
	if (!vq->aside) {
		vq->aside = vs_skb(feed->held)->len;
		vs->aside++;
	}
	vsnoop_skip(vs->engine, 0, feed, id);
}

/* Back with the flows of queues that have room again: half of it, so that this is rare. */
static void take_back(struct xenvif_vsnoop *vs)
{
	unsigned int i;

	for (i = 0; vs->aside && i < vs->vif->num_queues; i++) {
		struct vs_queue *vq = &vs->queues[i];

		if (!vq->aside || vq->queued_bytes > FEED_BYTES / 2 ||
		    full(vs, &vs->vif->queues[i], vq->aside))
			continue;
		vq->aside = 0;
		vs->aside--;
		vsnoop_resume(vs->engine, 0, i);
	}
}

/* Custody to rx_queue, as far as there is room. Returns frames to free. */
struct vsnoop_held *vs_feed(struct xenvif_vsnoop *vs, u64 now)
{
	struct vsnoop_held *released = NULL;
	struct vsnoop_feed feed;
	unsigned int i;

	if (!vs->connected || vs->leaving || vs->less || vs->vif->disabled)
		return NULL;
	if (vs->aside)
		take_back(vs);
	while (vsnoop_next(vs->engine, 0, &feed, now)) {
		struct sk_buff *whole = vs_skb(feed.held), *skb;
		struct xenvif_queue *queue = queue_for(vs, whole);
		struct vs_queue *vq = &vs->queues[queue->id];

		if (feed.discard) {
			vsnoop_fed(vs->engine, 0, &feed, now);
			feed.held->next = released;
			released = feed.held;
			continue;
		}
		if (full(vs, queue, whole->len)) {
			set_aside(vs, vq, queue->id, &feed);
			continue;
		}
		skb = prepare(vs, &feed);
		if (!skb) {
			set_aside(vs, vq, queue->id, &feed);
			continue;
		}
		if (feed.again)
			trace_vsnoop_redeliver(vs->vif, &feed);
		vsnoop_fed(vs->engine, 0, &feed, now);
		if (!feed.retain && skb != whole) {
			feed.held->next = released;
			released = feed.held;
		}
		XENVIF_RX_CB(skb)->expires = jiffies + vs->vif->drain_timeout;
		vq->queued_bytes += skb->len;
		vs->in_flight++;
		if (xenvif_rx_queue_tail(queue, skb)) {
			vq->kick = true;
			continue;
		}
		/* Another CPU has filled it since. */
		vq->queued_bytes -= skb->len;
		vs->in_flight--;
		if (feed.retain && !feed.more)
			vsnoop_returned(vs->engine, feed.held, now);
		if (skb != whole)
			vs_free_copy(vs, skb);
		else if (!feed.retain)
			kfree_skb(skb);
	}
	for (i = 0; i < vs->vif->num_queues; i++) {
		if (!vs->queues[i].kick)
			continue;
		vs->queues[i].kick = false;
		xenvif_kick_thread(&vs->vif->queues[i]);
	}
	return released;
}

/* Responses that the guest is known to have picked up: it says so when it stops
 * polling, and a slot it posts again was picked up before. It is the guest that
 * writes these: they move forward only, and not beyond what was pushed.
 */
static RING_IDX picked_up(const struct xenvif_queue *queue, RING_IDX seen)
{
	const RING_IDX pushed = READ_ONCE(queue->rx.rsp_prod_pvt);
	const RING_IDX polled = READ_ONCE(queue->rx.sring->rsp_event) - 1;
	const RING_IDX posted = READ_ONCE(queue->rx.sring->req_prod) - XEN_NETIF_RX_RING_SIZE;
	const RING_IDX most = pushed - seen;
	RING_IDX by = 0;

	if (polled - seen <= most)
		by = polled - seen;
	if (posted - seen <= most)
		by = max(by, posted - seen);
	return seen + by;
}

/* Whatever queue a flow's frames go to now. */
void vs_resume_all(struct xenvif_vsnoop *vs)
{
	unsigned int i;

	for (i = 0; i < VSNOOP_LANES; i++)
		vsnoop_resume(vs->engine, 0, i);
	for (i = 0; i < vs->vif->dev->num_tx_queues; i++)
		vs->queues[i].aside = 0;
	vs->aside = 0;
}

/* The ring is new: nothing of before is in it. */
void vs_reset_ring(struct xenvif_vsnoop *vs, const struct xenvif_queue *queue)
{
	struct vs_queue *vq = &vs->queues[queue->id];

	vq->seen = READ_ONCE(queue->rx.rsp_prod_pvt);
	vq->push_done = vq->seen;
}

/* What the guest has picked up of a ring that is connected, since the last call.
 * Returns frames to free.
 */
struct vsnoop_held *vs_reap(struct xenvif_vsnoop *vs, struct xenvif_queue *queue, u64 now)
{
	struct vs_queue *vq = &vs->queues[queue->id];
	struct vsnoop_held *released = NULL;
	struct sk_buff *skb;
	unsigned int turns;
	u32 memory = 0;
	RING_IDX seen;

	if (!vs->connected)
		return NULL;
	seen = picked_up(queue, vq->seen);
	if (seen == vq->seen)
		return NULL;
	vq->seen = seen;
	while ((skb = skb_peek(&vq->in_ring)) &&
	       (s32)(seen - (RING_IDX)XENVIF_RX_CB(skb)->expires) >= 0) {
		struct sk_buff *whole = skb;

		__skb_unlink(skb, &vq->in_ring);
		if (vs_cb(skb)->kind == XENVIF_VSNOOP_COPY) {
			whole = vs_cb(skb)->whole;
			vs_free_copy(vs, skb);
		}
		if (vsnoop_consumed(vs->engine, &vs_cb(whole)->held, now)) {
			vs_cb(whole)->held.next = released;
			released = &vs_cb(whole)->held;
		}
	}
	/* Each slot once: what the guest writes does not bound it. */
	for (turns = 0; vq->push_done != seen && turns < XEN_NETIF_RX_RING_SIZE; turns++) {
		u32 *pushed = &vq->push_memory[vq->push_done++ % XEN_NETIF_RX_RING_SIZE];

		memory += *pushed;
		*pushed = 0;
	}
	vq->push_done = seen;
	vsnoop_progress(vs->engine, 0, memory, now);
	return released;
}

struct vsnoop_held *vs_reap_all(struct xenvif_vsnoop *vs, u64 now)
{
	struct vsnoop_held *released = NULL;
	unsigned int i;

	if (!vs->connected)
		return NULL;
	for (i = 0; i < vs->vif->num_queues; i++)
		released = vs_chain(released, vs_reap(vs, &vs->vif->queues[i], now));
	return released;
}
