// SPDX-License-Identifier: GPL-2.0-only
/* vsnoop in xen-netback: frames from the network, on their way to the guest. */
#include "vsnoop_private.h"

#include "vsnoop_trace.h"

/* A verdict of PUSH, from here to when the frame has been copied. */
static void note_push(struct xenvif_vsnoop_cb *cb, const struct vsnoop_verdict *verdict)
{
	cb->kind = XENVIF_VSNOOP_PUSHED;
	cb->failed = false;
	cb->push.seq = verdict->seq;
	cb->push.length = verdict->length;
	cb->push.memory = verdict->memory;
	cb->push.flow = verdict->flow;
	cb->push.flags = verdict->flags;
	cb->push.retain = verdict->retain;
}

static struct vsnoop_verdict pushed(const struct xenvif_vsnoop_cb *cb)
{
	return (struct vsnoop_verdict){
		.action = VSNOOP_PUSH,
		.seq = cb->push.seq,
		.length = cb->push.length,
		.memory = cb->push.memory,
		.flow = cb->push.flow,
		.flags = cb->push.flags,
		.retain = cb->push.retain,
	};
}

/**
 * __xenvif_vsnoop_rx - a frame for the guest, before it is queued
 * @queue: where it would go
 * @skb: the frame, Ethernet header first
 *
 * Context: start_xmit, transmit queue lock held.
 * Return: true if @skb is taken care of; false: queue it as always.
 */
bool __xenvif_vsnoop_rx(struct xenvif_queue *queue, struct sk_buff *skb)
{
	struct xenvif *vif = queue->vif;
	struct xenvif_vsnoop *vs = vif->vsnoop;
	struct sk_buff *kept, *spent = NULL;
	struct vsnoop_held *released;
	struct vsnoop_verdict verdict;
	struct vsnoop_frame frame;
	bool copy, drop = false, lost = false, done = true;
	u64 now;

	/* Netpoll may not wait for the lock; a shared one (pktgen) may not be touched. */
	if (!READ_ONCE(vs->engine) || !vs_has_queue(queue) || irqs_disabled() ||
	    skb_shared(skb))
		return false;

	vs_make_readable(skb, HEADERS_FROM_PEER);
	frame.data = skb->data;
	frame.captured = skb_headlen(skb);
	frame.wire = skb->len;
	frame.checksum = vs_checksum(skb, ETH_HLEN, ((struct ethhdr *)skb->data)->h_proto);
	frame.memory = vs_cost(skb, &copy);

	spin_lock_bh(&vs->lock);
	if (!vs->engine || !vs->connected) {
		spin_unlock_bh(&vs->lock);
		return false;
	}
	now = vs_now();
	if (vs->now.policy == VSNOOP_POLICY_RING)
		frame.memory = DIV_ROUND_UP(skb->len, XEN_PAGE_SIZE) * XEN_PAGE_SIZE;
	verdict = vsnoop_from_peer(vs->engine, 0, &frame, now);
	released = verdict.released;

	switch (verdict.action) {
	case VSNOOP_KEEP:
		kept = vs_make_ours(skb, copy);
		if (kept && vsnoop_taken(vs->engine, &verdict, &vs_cb(kept)->held, now)) {
			if (kept != skb)
				spent = skb;
			released = vs_chain(released, vs_feed(vs, now));
			break;
		}
		if (kept != skb)
			kfree_skb(kept);
		drop = vsnoop_declined(vs->engine, &verdict, now) == VSNOOP_DROP;
		done = drop;
		lost = drop;
		break;
	case VSNOOP_PUSH:
		note_push(vs_cb(skb), &verdict);
		XENVIF_RX_CB(skb)->expires = jiffies + vif->drain_timeout;
		vs->in_flight++;
		vs->queues[queue->id].queued_bytes += skb->len;
		if (xenvif_rx_queue_tail(queue, skb)) {
			xenvif_kick_thread(queue);
		} else {
			vs->in_flight--;
			vs->queues[queue->id].queued_bytes -= skb->len;
			vsnoop_declined(vs->engine, &verdict, now);
			drop = true;
			lost = true;
		}
		break;
	case VSNOOP_DROP:
		drop = true;
		break;
	default:
		if (verdict.length)
			trace_vsnoop_refuse(vif, &verdict);
		done = false;
	}
	vs_wake(vs, queue, now);
	spin_unlock_bh(&vs->lock);

	vs_free(vif, released);
	consume_skb(spent);
	if (lost)
		vif->dev->stats.tx_dropped++;
	if (drop)
		kfree_skb(skb);
	return done;
}

/**
 * __xenvif_vsnoop_copied - frames are in the guest's memory, responses pushed
 * @queue: whose ring
 * @skbs: all frames that were copied
 *
 * Context: the guest-rx kthread, bottom halves on.
 */
void __xenvif_vsnoop_copied(struct xenvif_queue *queue, struct sk_buff_head *skbs)
{
	struct xenvif_vsnoop *vs = queue->vif->vsnoop;
	struct vsnoop_held *released = NULL;
	struct sk_buff_head gone;
	struct sk_buff *skb, *next;
	u64 now;

	if (!READ_ONCE(vs->engine) || !vs_has_queue(queue) || skb_queue_empty(skbs))
		return;
	__skb_queue_head_init(&gone);

	spin_lock_bh(&vs->lock);
	if (!vs->engine) {
		spin_unlock_bh(&vs->lock);
		return;
	}
	now = vs_now();
	skb_queue_walk_safe(skbs, skb, next) {
		struct vs_queue *vq = &vs->queues[queue->id];
		struct xenvif_vsnoop_cb *cb = vs_cb(skb);
		struct vsnoop_verdict verdict;

		if (cb->kind == XENVIF_VSNOOP_NONE)
			continue;
		__skb_unlink(skb, skbs);
		vq->queued_bytes -= skb->len;
		vs->in_flight--;
		switch (cb->kind) {
		case XENVIF_VSNOOP_HELD:
		case XENVIF_VSNOOP_COPY:
			/* A failed copy is a loss behind us: the timer mends it. */
			__skb_queue_tail(&vq->in_ring, skb);
			continue;
		case XENVIF_VSNOOP_PIECE:
			vs->copies -= skb->truesize;
			break;
		case XENVIF_VSNOOP_PUSHED:
			verdict = pushed(cb);
			if (!cb->failed && vsnoop_taken(vs->engine, &verdict, NULL, now)) {
				const RING_IDX last = (RING_IDX)XENVIF_RX_CB(skb)->expires - 1;

				vq->push_memory[last % XEN_NETIF_RX_RING_SIZE] += cb->push.memory;
			} else {
				vsnoop_declined(vs->engine, &verdict, now);
			}
			break;
		}
		__skb_queue_tail(&gone, skb);
	}
	released = vs_reap(vs, queue, now);
	released = vs_chain(released, vs_feed(vs, now));
	vs_wake(vs, queue, now);
	spin_unlock_bh(&vs->lock);

	__skb_queue_purge(&gone);
	vs_free(queue->vif, released);
}

/**
 * __xenvif_vsnoop_unsent - frames leave rx_queue and did not reach the guest
 * @queue: whose
 * @skbs: oldest first; those in custody are taken off and wait again
 *
 * Context: the guest-rx kthread, or disconnect after it has ended.
 */
void __xenvif_vsnoop_unsent(struct xenvif_queue *queue, struct sk_buff_head *skbs)
{
	struct xenvif_vsnoop *vs = queue->vif->vsnoop;
	struct sk_buff *skb, *next;
	u64 now;

	if (!READ_ONCE(vs->engine) || !vs_has_queue(queue))
		return;
	spin_lock_bh(&vs->lock);
	now = vs_now();
	/* Each goes before all others: the last one first. */
	skb_queue_reverse_walk_safe(skbs, skb, next) {
		struct xenvif_vsnoop_cb *cb = vs_cb(skb);
		struct vsnoop_verdict verdict;

		if (!vs->engine || cb->kind == XENVIF_VSNOOP_NONE)
			continue;
		vs->queues[queue->id].queued_bytes -= skb->len;
		vs->in_flight--;
		switch (cb->kind) {
		case XENVIF_VSNOOP_HELD:
			__skb_unlink(skb, skbs);
			vsnoop_returned(vs->engine, &cb->held, now);
			break;
		case XENVIF_VSNOOP_COPY:
			vsnoop_returned(vs->engine, &vs_cb(cb->whole)->held, now);
			fallthrough;
		case XENVIF_VSNOOP_PIECE:
			vs->copies -= skb->truesize;	/* the caller frees it */
			break;
		case XENVIF_VSNOOP_PUSHED:
			verdict = pushed(cb);
			vsnoop_declined(vs->engine, &verdict, now);
			break;
		}
	}
	if (vs->engine)
		vs_wake(vs, queue, now);
	spin_unlock_bh(&vs->lock);
}
