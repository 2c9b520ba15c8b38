// SPDX-License-Identifier: GPL-2.0-only
/* vsnoop in xen-netback: frames from the guest, and what the engine owes. */
#include "vsnoop_private.h"

#include "vsnoop_trace.h"

void vs_receive(struct sk_buff_head *skbs)
{
	struct sk_buff *skb;

	while ((skb = __skb_dequeue(skbs)))
		netif_receive_skb(skb);
}

/**
 * __xenvif_vsnoop_tx - a frame from the guest, before the stack gets it
 * @queue: where it came from
 * @skb: the frame, Ethernet header pulled
 *
 * Context: NAPI of @queue.
 * Return: false if it says nothing new to the peer: drop it.
 */
bool __xenvif_vsnoop_tx(struct xenvif_queue *queue, struct sk_buff *skb)
{
	struct xenvif *vif = queue->vif;
	struct xenvif_vsnoop *vs = vif->vsnoop;
	struct vsnoop_verdict verdict;
	struct vsnoop_frame frame;
	struct sk_buff_head out;
	u64 now;

	if (!READ_ONCE(vs->engine) || !vs_has_queue(queue))
		return true;

	vs_make_readable(skb, HEADERS_FROM_GUEST);
	frame.data = skb_mac_header(skb);
	frame.captured = skb_headlen(skb) + ETH_HLEN;
	frame.wire = skb->len + ETH_HLEN;
	frame.checksum = vs_checksum(skb, 0, eth_hdr(skb)->h_proto);
	frame.memory = skb->truesize;
	__skb_queue_head_init(&out);

	spin_lock_bh(&vs->lock);
	if (!vs->engine) {
		spin_unlock_bh(&vs->lock);
		return true;
	}
	now = vs_now();
	verdict = vsnoop_from_guest(vs->engine, 0, &frame, now);
	if (verdict.flow.slot < vs->flows)
		vs->tx_queue_of[verdict.flow.slot] = queue->id;
	/* ACKs built before this segment was seen must not be overtaken by it. */
	skb_queue_splice_init(&vs->queues[queue->id].out, &out);
	spin_unlock_bh(&vs->lock);

	vs_free(vif, verdict.released);
	vs_receive(&out);
	if (verdict.action == VSNOOP_EDIT)
		vsnoop_apply_edit(skb_mac_header(skb), frame.captured, &verdict.edit,
				  skb->ip_summed == CHECKSUM_PARTIAL);
	return verdict.action != VSNOOP_DROP;
}

struct sk_buff *vs_alloc_emission(gfp_t gfp)
{
	return alloc_skb(NET_SKB_PAD + NET_IP_ALIGN + VSNOOP_EMIT_MAX, gfp | __GFP_NOWARN);
}

/* Builds what is owed, @most frames of it, in buffers of @spare (or NULL) first: for
 * peers into the out list of the queue that the flow's own segments come from, for the
 * guest (resets) into rx_queue. Returns how many.
 */
unsigned int vs_emit(struct xenvif_vsnoop *vs, unsigned int most, struct sk_buff_head *spare,
		     u64 now)
{
	const unsigned int num_queues = vs->connected ? vs->vif->num_queues : 1;
	struct xenvif *vif = vs->vif;
	struct vsnoop_emission emission;
	unsigned int done;

	for (done = 0; done < most && vsnoop_owes(vs->engine); done++) {
		struct sk_buff *skb = spare ? __skb_dequeue(spare) : NULL;
		unsigned int id = 0;

		if (!skb)
			skb = vs_alloc_emission(GFP_ATOMIC);
		if (!skb)
			break; /* still owed: the next poll tries again */
		skb_reserve(skb, NET_SKB_PAD + NET_IP_ALIGN);
		if (!vsnoop_emit(vs->engine, &emission, skb->data, now)) {
			consume_skb(skb);
			break;
		}
		skb_put(skb, emission.length);
		skb->ip_summed = CHECKSUM_UNNECESSARY;
		if (emission.reason == VSNOOP_REASON_early_ack)
			trace_vsnoop_promise(vif, &emission);
		if (emission.flow.slot < vs->flows)
			id = vs->tx_queue_of[emission.flow.slot] % num_queues;
		if (emission.to_guest) {
			XENVIF_RX_CB(skb)->expires = jiffies + vif->drain_timeout;
			vs_cb(skb)->kind = XENVIF_VSNOOP_NONE;
			if (vs->connected && xenvif_rx_queue_tail(&vif->queues[id], skb))
				xenvif_kick_thread(&vif->queues[id]);
			else
				kfree_skb(skb);
			continue;
		}
		skb->dev = vif->dev;
		skb->protocol = eth_type_trans(skb, vif->dev);
		skb_reset_network_header(skb);
		skb_record_rx_queue(skb, id);
		__skb_queue_tail(&vs->queues[id].out, skb);
	}
	return done;
}

/**
 * __xenvif_vsnoop_poll - sends what is owed to peers
 * @queue: the queue that is polled
 * @work_done: of @budget, for the guest's own segments, which came first
 * @budget: the poll's; of frames that are owed as many again may go out
 *
 * The state is that of this moment, so several promises make one ACK.
 * Context: NAPI of @queue; netpoll, with a budget of 0 and interrupts off, passes by.
 * Return: the work done in all, @budget if there is more to do.
 */
int __xenvif_vsnoop_poll(struct xenvif_queue *queue, int work_done, int budget)
{
	struct xenvif_vsnoop *vs = queue->vif->vsnoop;
	struct vsnoop_held *released = NULL;
	struct sk_buff_head out;
	unsigned int i, sent = 0;
	u64 now;

	if (!budget || !READ_ONCE(vs->engine) || !vs_has_queue(queue))
		return work_done;
	__skb_queue_head_init(&out);

	spin_lock_bh(&vs->lock);
	if (vs->engine && vs->connected) {
		now = vs_now();
		released = vs_reap(vs, queue, now);
		released = vs_chain(released, vs_feed(vs, now));
		sent = vs_emit(vs, budget, NULL, now);
		for (i = 0; i < vs->vif->num_queues; i++)
			if (i != queue->id && !skb_queue_empty(&vs->queues[i].out))
				napi_schedule(&vs->vif->queues[i].napi);
		skb_queue_splice_init(&vs->queues[queue->id].out, &out);
		vs_arm_timer(vs, now);
	}
	spin_unlock_bh(&vs->lock);

	vs_free(queue->vif, released);
	vs_receive(&out);
	return min_t(int, work_done + sent, budget);
}
