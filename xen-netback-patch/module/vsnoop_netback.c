// SPDX-License-Identifier: GPL-2.0-only
/*
 * vsnoop in xen-netback: the host of snoop-core in a driver domain.
 *
 * The engine (C++) decides, this file does: it owns the frames, the clock, the
 * memory, the rings and the locks. One engine per vif, because the guest picks
 * the queue of what it sends, so that a flow's two directions need not use the
 * same one.
 *
 * An skb in custody is moved, not cloned:
 *
 *   start_xmit -> WAITING (engine) -> rx_queue -> in_ring -> DELIVERED (engine)
 *                       ^                |           |            |
 *                       +-- expired -----+           +-- time out-+-- guest's ACK
 *                                                                     frees it
 *
 * rx_queue has one consumer, the guest-rx kthread. in_ring holds what was copied
 * into guest memory and has not been picked up yet; the guest's own indices say
 * when it has, so that a guest that does not run is not delivered to again.
 *
 * Locks: netdev txq lock -> vsnoop lock -> rx_queue.lock. The vsnoop lock is
 * taken with bottom halves off, never with interrupts off (netpoll passes by).
 * Frames are freed and ACKs received by the stack outside of it: two vifs that
 * acknowledge towards each other would otherwise take it crosswise.
 */
#include "common.h"
#include "vsnoop_netback.h"

#include <linux/ethtool.h>
#include <linux/moduleparam.h>
#include <linux/poll.h>
#include <linux/random.h>
#include <linux/seq_file.h>
#include <linux/vmalloc.h>
#include <net/ipv6.h>

#define CREATE_TRACE_POINTS
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
/* While frames are in the ring: how often to look whether they were picked up. */
#define RING_INTERVAL max(HZ / 50, 1)
#define TIMER_MOST_US 10000000
#define DRAIN_INTERVAL max(HZ / 50, 1)

#define FLOWS 4096
#define CUSTODIES 1024
#define IDLE_S 7200

/* Bytes of a frame that have to be readable for the engine: Ethernet, two VLAN
 * tags, IPv6 with little extra, TCP with all options.
 */
#define HEADERS_FROM_PEER 160
#define HEADERS_FROM_GUEST 114

#define VIF_KIB_DEFAULT 16384
#define VIF_KIB_LEAST 256
#define FLOW_KIB_DEFAULT 4096

#define LOG_BYTES (4u << 20)

DEFINE_STATIC_KEY_FALSE(xenvif_vsnoop_key);

/* The settings of one vif, as its key in xenstore says. */
struct settings {
	u8 policy;		/* enum vsnoop_policy */
	u8 engage;		/* enum vsnoop_engage */
	bool early_sack;
	u32 vif_kib;
	u32 flow_kib;
};

struct vsnoop_queue {
	struct sk_buff_head in_ring;	/* copied, not seen to be picked up */
	struct sk_buff_head out;	/* ACKs another CPU built for this queue */
	u32 queued_bytes;		/* custody bytes on rx_queue */
	RING_IDX seen;			/* responses the guest has picked up */
	RING_IDX push_done;		/* push_memory is accounted up to here */
	u32 push_memory[XEN_NETIF_RX_RING_SIZE]; /* by last slot; ring policy */
};

struct decision_log {
	u8 *bytes;
	u32 head, tail;			/* free running */
	bool lost;			/* it was full: nothing after that is kept */
	wait_queue_head_t wait;
};

struct xenvif_vsnoop {
	struct xenvif *vif;

	spinlock_t lock;		/* everything down to the next blank line */
	struct vsnoop_engine *engine;
	void *engine_memory;
	struct vsnoop_queue *queues;
	u8 *tx_queue_of;		/* by flow slot: where its segments come from */
	unsigned int in_flight;		/* skbs of ours on rx_queues */
	bool connected;
	bool closing;			/* feed nothing more: the engine goes */
	bool stop_feeding;		/* ring room is short, see feed() */
	struct decision_log *log;	/* a reader has it open */
	bool recording;			/* and had before the engine's life began */

	struct timer_list timer;
	struct delayed_work work;	/* configure() */
	struct xenbus_watch watch;

	/* configure() only */
	struct settings now;		/* what the engine was opened with */
	bool quiesced;
	char state[80];			/* as last written to xenstore */

	struct list_head list;		/* all of them, under all_lock */
	u32 granted_kib;		/* of the total, under all_lock */
	u64 features;			/* of the frontend last connected */
};

static DEFINE_MUTEX(all_lock);
static LIST_HEAD(all);

static unsigned int vsnoop_total_kib;
module_param(vsnoop_total_kib, uint, 0644);
MODULE_PARM_DESC(vsnoop_total_kib,
		 "KiB that guests' budgets may add up to (0: 5 % of memory, at most 256 MiB)");

static bool vsnoop_switch = true;

static int set_switch(const char *text, const struct kernel_param *param)
{
	struct xenvif_vsnoop *vs;
	int err = param_set_bool(text, param);

	if (err)
		return err;
	mutex_lock(&all_lock);
	list_for_each_entry(vs, &all, list)
		mod_delayed_work(system_wq, &vs->work, 0);
	mutex_unlock(&all_lock);
	return 0;
}

static const struct kernel_param_ops switch_ops = {
	.flags = KERNEL_PARAM_OPS_FL_NOARG,
	.set = set_switch,
	.get = param_get_bool,
};
module_param_cb(vsnoop, &switch_ops, &vsnoop_switch, 0644);
MODULE_PARM_DESC(vsnoop, "0: no early ACKs for any guest, what is promised drains");

static u64 now_us(void)
{
	return ktime_to_us(ktime_get());
}

static struct xenvif_vsnoop_cb *cb_of(const struct sk_buff *skb)
{
	return &XENVIF_RX_CB(skb)->vsnoop;
}

static struct sk_buff *skb_of(struct vsnoop_held *held)
{
	void *cb = container_of(held, struct xenvif_rx_cb, vsnoop.held);

	return container_of(cb, struct sk_buff, cb);
}

/* Frees a list that the engine handed back. Not under the lock. */
static void free_held(struct xenvif *vif, struct vsnoop_held *held)
{
	while (held) {
		struct sk_buff *skb = skb_of(held);

		held = held->next;
		trace_vsnoop_release(vif, skb->len);
		consume_skb(skb);
	}
}

static struct vsnoop_held *chain(struct vsnoop_held *list, struct vsnoop_held *more)
{
	struct vsnoop_held *last = more;

	if (!more)
		return list;
	while (last->next)
		last = last->next;
	last->next = list;
	return more;
}

static u8 checksum_of(const struct sk_buff *skb)
{
	switch (skb->ip_summed) {
	case CHECKSUM_PARTIAL:
		return VSNOOP_CHECKSUM_PARTIAL;
	case CHECKSUM_UNNECESSARY:
		return VSNOOP_CHECKSUM_VERIFIED;
	default:
		return VSNOOP_CHECKSUM_UNKNOWN;
	}
}

/*
 * Makes headers readable, and the whole frame if its checksum has to be
 * verified. If memory lacks, the engine sees a short frame and promises nothing.
 */
static void make_readable(struct sk_buff *skb, unsigned int headers)
{
	if (!skb_is_nonlinear(skb))
		return;
	if (checksum_of(skb) == VSNOOP_CHECKSUM_UNKNOWN)
		skb_linearize(skb);
	else if (skb_headlen(skb) < headers)
		pskb_may_pull(skb, min(skb->len, headers));
}

/* ---- towards the guest */

static struct xenvif_queue *queue_for(struct xenvif_vsnoop *vs, const struct sk_buff *skb)
{
	return &vs->vif->queues[skb_get_queue_mapping(skb) % vs->vif->num_queues];
}

/* The ring has not moved for a while and has no room for @skb. */
static bool parked(const struct xenvif_queue *queue, const struct sk_buff *skb)
{
	const RING_IDX free = READ_ONCE(queue->rx.sring->req_prod) - READ_ONCE(queue->rx.req_cons);

	return free < DIV_ROUND_UP(skb->len, XEN_PAGE_SIZE) + EXTRA_SLOTS &&
	       time_after(jiffies, READ_ONCE(queue->last_rx_time) + PARK_AFTER);
}

/*
 * What enters the ring for @feed. A new header may be written over the old one:
 * it only ever gets newer. A part is a copy, because the whole may be wanted
 * again. NULL: no memory; it stays where it is, and the timer tries again.
 */
static struct sk_buff *prepare(const struct vsnoop_feed *feed)
{
	struct sk_buff *skb = skb_of(feed->held);
	const bool partial = skb->ip_summed == CHECKSUM_PARTIAL;
	const bool cut = feed->skip || feed->keep != feed->held->length;
	u32 length;

	if (cut) {
		struct sk_buff *copy = skb_copy(skb, GFP_ATOMIC | __GFP_NOWARN);

		if (!copy)
			return NULL;
		length = vsnoop_trim(copy->data, copy->len, feed->skip, feed->keep, partial);
		if (length)
			skb_trim(copy, length);
		if (skb_is_gso(copy) && feed->keep <= skb_shinfo(copy)->gso_size)
			skb_gso_reset(copy);
		cb_of(copy)->kind = feed->retain ? XENVIF_VSNOOP_COPY : XENVIF_VSNOOP_QUEUED;
		cb_of(copy)->whole = skb;
		skb = copy;
	} else {
		if (feed->edit.what &&
		    skb_ensure_writable(skb, min_t(u32, skb->len, HEADERS_FROM_PEER)))
			return NULL;
		cb_of(skb)->kind = feed->retain ? XENVIF_VSNOOP_HELD : XENVIF_VSNOOP_QUEUED;
	}
	if (feed->edit.what)
		vsnoop_apply_edit(skb->data, skb_headlen(skb), &feed->edit, partial);
	return skb;
}

/* Custody to rx_queue, as far as there is room. Returns frames to free. */
static struct vsnoop_held *feed(struct xenvif_vsnoop *vs, u64 now)
{
	struct vsnoop_held *released = NULL;
	unsigned long kick = 0;
	struct vsnoop_feed feed;
	unsigned int i;

	if (!vs->connected || vs->closing)
		return NULL;
	while (vsnoop_next(vs->engine, 0, &feed, now)) {
		struct sk_buff *whole = skb_of(feed.held), *skb;
		struct xenvif_queue *queue = queue_for(vs, whole);
		struct vsnoop_queue *vq = &vs->queues[queue->id];

		if (feed.discard) {
			vsnoop_fed(vs->engine, 0, &feed, now);
			feed.held->next = released;
			released = feed.held;
			continue;
		}
		if (vq->queued_bytes >= FEED_BYTES || parked(queue, whole) ||
		    READ_ONCE(queue->rx_queue_len) >= queue->rx_queue_max)
			break;
		skb = prepare(&feed);
		if (!skb)
			break;
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
			kick |= BIT(queue->id);
			continue;
		}
		/* Another CPU has filled it since. */
		vq->queued_bytes -= skb->len;
		vs->in_flight--;
		if (feed.retain) {
			vsnoop_returned(vs->engine, feed.held, now);
			if (skb != whole)
				kfree_skb(skb);
		} else {
			kfree_skb(skb);
		}
		break;
	}
	for_each_set_bit(i, &kick, BITS_PER_LONG)
		xenvif_kick_thread(&vs->vif->queues[i]);
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

/* What the guest has picked up since the last call. Returns frames to free. */
static struct vsnoop_held *reap(struct xenvif_vsnoop *vs, struct xenvif_queue *queue, u64 now)
{
	struct vsnoop_queue *vq = &vs->queues[queue->id];
	const RING_IDX seen = picked_up(queue, vq->seen);
	struct vsnoop_held *released = NULL;
	struct sk_buff *skb;
	u32 memory = 0;

	if (seen == vq->seen)
		return NULL;
	vq->seen = seen;
	while ((skb = skb_peek(&vq->in_ring)) &&
	       (s32)(seen - (RING_IDX)XENVIF_RX_CB(skb)->expires) >= 0) {
		struct sk_buff *whole = skb;

		__skb_unlink(skb, &vq->in_ring);
		if (cb_of(skb)->kind == XENVIF_VSNOOP_COPY) {
			whole = cb_of(skb)->whole;
			consume_skb(skb);
		}
		if (vsnoop_consumed(vs->engine, &cb_of(whole)->held, now)) {
			cb_of(whole)->held.next = released;
			released = &cb_of(whole)->held;
		}
	}
	while (vq->push_done != seen) {
		u32 *pushed = &vq->push_memory[vq->push_done++ % XEN_NETIF_RX_RING_SIZE];

		memory += *pushed;
		*pushed = 0;
	}
	vsnoop_progress(vs->engine, 0, memory, now);
	return released;
}

static struct vsnoop_held *reap_all(struct xenvif_vsnoop *vs, u64 now)
{
	struct vsnoop_held *released = NULL;
	unsigned int i;

	if (!vs->connected)
		return NULL;
	for (i = 0; i < vs->vif->num_queues; i++)
		released = chain(released, reap(vs, &vs->vif->queues[i], now));
	return released;
}

/* ---- timers, and whom to wake */

static void arm_timer(struct xenvif_vsnoop *vs, u64 now)
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
static void wake(struct xenvif_vsnoop *vs, struct xenvif_queue *queue, u64 now)
{
	if (vs->connected && vsnoop_owes(vs->engine))
		napi_schedule(&queue->napi);
	if (!timer_pending(&vs->timer))
		arm_timer(vs, now);
}

static void run_timer(struct timer_list *timer)
{
	struct xenvif_vsnoop *vs = from_timer(vs, timer, timer);
	struct vsnoop_held *released = NULL;
	u64 now;

	spin_lock(&vs->lock);
	if (vs->engine) {
		now = now_us();
		released = reap_all(vs, now);
		if (vsnoop_deadline(vs->engine) <= now)
			released = chain(released, vsnoop_tick(vs->engine, now));
		released = chain(released, feed(vs, now));
		if (vs->connected && vsnoop_owes(vs->engine))
			napi_schedule(&vs->vif->queues[0].napi);
		arm_timer(vs, now);
	}
	spin_unlock(&vs->lock);
	free_held(vs->vif, released);
}

/* ---- from the network */

/*
 * Makes the skb one that may be kept for long and delivered again: nothing of
 * the sender's hangs on it, and its pages are this domain's.
 */
static bool make_ours(struct sk_buff *skb)
{
	if (skb_pfmemalloc(skb))
		return false;
	skb_orphan(skb);
	skb_scrub_packet(skb, false);
	return !skb_orphan_frags_rx(skb, GFP_ATOMIC | __GFP_NOWARN);
}

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
	struct vsnoop_held *released;
	struct vsnoop_verdict verdict;
	struct vsnoop_frame frame;
	bool drop = false, done = true;
	u64 now;

	/* Netpoll may not wait for the lock; a shared one (pktgen) may not be touched. */
	if (!READ_ONCE(vs->engine) || irqs_disabled() || skb_shared(skb))
		return false;

	make_readable(skb, HEADERS_FROM_PEER);
	frame.data = skb->data;
	frame.captured = skb_headlen(skb);
	frame.wire = skb->len;
	frame.checksum = checksum_of(skb);

	spin_lock_bh(&vs->lock);
	if (!vs->engine) {
		spin_unlock_bh(&vs->lock);
		return false;
	}
	now = now_us();
	frame.memory = vs->now.policy == VSNOOP_POLICY_RING ?
		DIV_ROUND_UP(skb->len, XEN_PAGE_SIZE) * XEN_PAGE_SIZE : skb->truesize;
	verdict = vsnoop_from_peer(vs->engine, 0, &frame, now);
	released = verdict.released;

	switch (verdict.action) {
	case VSNOOP_KEEP:
		if (make_ours(skb) &&
		    vsnoop_taken(vs->engine, &verdict, &cb_of(skb)->held, now)) {
			released = chain(released, feed(vs, now));
			break;
		}
		drop = vsnoop_declined(vs->engine, &verdict, now) == VSNOOP_DROP;
		done = drop;
		break;
	case VSNOOP_PUSH:
		note_push(cb_of(skb), &verdict);
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
	wake(vs, queue, now);
	spin_unlock_bh(&vs->lock);

	free_held(vif, released);
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

	if (!READ_ONCE(vs->engine) || skb_queue_empty(skbs))
		return;
	__skb_queue_head_init(&gone);

	spin_lock_bh(&vs->lock);
	if (!vs->engine) {
		spin_unlock_bh(&vs->lock);
		return;
	}
	now = now_us();
	skb_queue_walk_safe(skbs, skb, next) {
		struct vsnoop_queue *vq = &vs->queues[queue->id];
		struct xenvif_vsnoop_cb *cb = cb_of(skb);
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
	released = chain(reap(vs, queue, now), feed(vs, now));
	wake(vs, queue, now);
	spin_unlock_bh(&vs->lock);

	__skb_queue_purge(&gone);
	free_held(queue->vif, released);
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

	if (!READ_ONCE(vs->engine))
		return;
	spin_lock_bh(&vs->lock);
	now = now_us();
	/* Each goes before all others: the last one first. */
	skb_queue_reverse_walk_safe(skbs, skb, next) {
		struct xenvif_vsnoop_cb *cb = cb_of(skb);
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
			vsnoop_returned(vs->engine, &cb_of(cb->whole)->held, now);
			break;
		case XENVIF_VSNOOP_PUSHED:
			verdict = pushed(cb);
			vsnoop_declined(vs->engine, &verdict, now);
			break;
		}
	}
	if (vs->engine)
		wake(vs, queue, now);
	spin_unlock_bh(&vs->lock);
}

/* ---- from the guest */

static void receive(struct sk_buff_head *skbs)
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

	if (!READ_ONCE(vs->engine))
		return true;

	make_readable(skb, HEADERS_FROM_GUEST);
	frame.data = skb_mac_header(skb);
	frame.captured = skb_headlen(skb) + ETH_HLEN;
	frame.wire = skb->len + ETH_HLEN;
	frame.checksum = checksum_of(skb);
	frame.memory = skb->truesize;
	__skb_queue_head_init(&out);

	spin_lock_bh(&vs->lock);
	if (!vs->engine) {
		spin_unlock_bh(&vs->lock);
		return true;
	}
	now = now_us();
	verdict = vsnoop_from_guest(vs->engine, 0, &frame, now);
	if (verdict.flow.slot < FLOWS)
		vs->tx_queue_of[verdict.flow.slot] = queue->id;
	/* ACKs built before this segment was seen must not be overtaken by it. */
	skb_queue_splice_init(&vs->queues[queue->id].out, &out);
	spin_unlock_bh(&vs->lock);

	free_held(vif, verdict.released);
	receive(&out);
	if (verdict.action == VSNOOP_EDIT)
		vsnoop_apply_edit(skb_mac_header(skb), frame.captured, &verdict.edit,
				  skb->ip_summed == CHECKSUM_PARTIAL);
	return verdict.action != VSNOOP_DROP;
}

/* ---- what the engine owes */

/* Builds what is owed: for peers into the out list of the queue that the flow's
 * own segments come from, for the guest (resets) into rx_queue.
 */
static void emit(struct xenvif_vsnoop *vs, u64 now)
{
	struct xenvif *vif = vs->vif;
	struct vsnoop_emission emission;

	while (vsnoop_owes(vs->engine)) {
		struct sk_buff *skb = alloc_skb(NET_SKB_PAD + NET_IP_ALIGN + VSNOOP_EMIT_MAX,
						GFP_ATOMIC | __GFP_NOWARN);
		unsigned int id = 0;

		if (!skb)
			return; /* still owed: the next poll tries again */
		skb_reserve(skb, NET_SKB_PAD + NET_IP_ALIGN);
		if (!vsnoop_emit(vs->engine, &emission, skb->data, now)) {
			consume_skb(skb);
			return;
		}
		skb_put(skb, emission.length);
		skb->ip_summed = CHECKSUM_UNNECESSARY;
		if (emission.reason == VSNOOP_REASON_early_ack)
			trace_vsnoop_promise(vif, &emission);
		if (emission.flow.slot < FLOWS)
			id = vs->tx_queue_of[emission.flow.slot] % vif->num_queues;
		if (emission.to_guest) {
			XENVIF_RX_CB(skb)->expires = jiffies + vif->drain_timeout;
			cb_of(skb)->kind = XENVIF_VSNOOP_NONE;
			if (xenvif_rx_queue_tail(&vif->queues[id], skb))
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
}

/**
 * __xenvif_vsnoop_poll - sends what is owed to peers
 * @queue: the queue that is polled
 *
 * The state is that of this moment, so several promises make one ACK.
 * Context: NAPI of @queue, after the guest's own segments.
 */
void __xenvif_vsnoop_poll(struct xenvif_queue *queue)
{
	struct xenvif_vsnoop *vs = queue->vif->vsnoop;
	struct vsnoop_held *released = NULL;
	struct sk_buff_head out;
	unsigned int i;
	u64 now;

	if (!READ_ONCE(vs->engine))
		return;
	__skb_queue_head_init(&out);

	spin_lock_bh(&vs->lock);
	if (vs->engine && vs->connected) {
		now = now_us();
		released = chain(reap(vs, queue, now), feed(vs, now));
		emit(vs, now);
		for (i = 0; i < vs->vif->num_queues; i++)
			if (i != queue->id && !skb_queue_empty(&vs->queues[i].out))
				napi_schedule(&vs->vif->queues[i].napi);
		skb_queue_splice_init(&vs->queues[queue->id].out, &out);
		arm_timer(vs, now);
	}
	spin_unlock_bh(&vs->lock);

	free_held(queue->vif, released);
	receive(&out);
}

/* ---- life */

/* Takes the engine away. Nothing of it is on an rx_queue any more. */
static void destroy(struct xenvif_vsnoop *vs)
{
	struct vsnoop_held *released;
	struct vsnoop_queue *queues;
	struct sk_buff_head gone;
	struct vsnoop_feed feed;
	struct sk_buff *skb;
	unsigned int i;
	void *memory;
	u8 *slots;
	u64 now;

	if (!vs->engine)
		return;
	__skb_queue_head_init(&gone);
	spin_lock_bh(&vs->lock);
	WARN_ON_ONCE(vs->in_flight);
	now = now_us();
	released = vsnoop_guest_stop(vs->engine, 0, now);
	/* Frames that came back from a ring wait to be fetched. */
	while (vsnoop_next(vs->engine, 0, &feed, now)) {
		vsnoop_fed(vs->engine, 0, &feed, now);
		feed.held->next = released;
		released = feed.held;
	}
	for (i = 0; i < vs->vif->dev->num_tx_queues; i++) {
		skb_queue_splice_init(&vs->queues[i].out, &gone);
		while ((skb = __skb_dequeue(&vs->queues[i].in_ring))) {
			if (cb_of(skb)->kind == XENVIF_VSNOOP_COPY)
				__skb_queue_tail(&gone, cb_of(skb)->whole);
			__skb_queue_tail(&gone, skb);
		}
	}
	memory = vs->engine_memory;
	queues = vs->queues;
	slots = vs->tx_queue_of;
	WRITE_ONCE(vs->engine, NULL);
	vs->queues = NULL;
	spin_unlock_bh(&vs->lock);
	del_timer_sync(&vs->timer);

	free_held(vs->vif, released);
	__skb_queue_purge(&gone);
	kvfree(memory);
	kvfree(queues);
	kvfree(slots);
	mutex_lock(&all_lock);
	vs->granted_kib = 0;
	mutex_unlock(&all_lock);
	static_branch_dec(&xenvif_vsnoop_key);
}

static void write_log(void *context, const u8 *bytes, u32 length)
{
	struct decision_log *log = context;
	u32 i;

	if (log->lost || LOG_BYTES - (log->head - log->tail) < length) {
		log->lost = true;
		return;
	}
	for (i = 0; i < length; i++)
		log->bytes[(log->head + i) % LOG_BYTES] = bytes[i];
	log->head += length;
	wake_up_interruptible(&log->wait);
}

/* Only the whole life of an engine can be replayed. */
static void log_record(void *context, const u8 *bytes, u32 length)
{
	struct xenvif_vsnoop *vs = context;

	if (vs->recording)
		write_log(vs->log, bytes, length);
}

static void fill_guest_config(struct vsnoop_guest_config *guest, const struct settings *set,
			      u32 granted_kib)
{
	vsnoop_guest_defaults(guest);
	guest->policy = set->policy;
	guest->engage = set->engage;
	guest->early_sack = set->early_sack;
	guest->budget = granted_kib << 10;
	guest->flow_budget = min(set->flow_kib, granted_kib) << 10;
	/* The ring, and netback's own queue in front of it. */
	if (set->policy == VSNOOP_POLICY_RING)
		guest->budget = XEN_NETIF_RX_RING_SIZE * XEN_PAGE_SIZE * 3 / 2;
}

/* What is left of the total for this vif; budgets are shared out when a guest is
 * switched on, so that none can take what another was given.
 */
static u32 grant_kib(struct xenvif_vsnoop *vs, u32 wanted)
{
	u64 total = READ_ONCE(vsnoop_total_kib);
	struct xenvif_vsnoop *other;
	u64 taken = 0;

	if (!total)
		total = min_t(u64, (u64)totalram_pages() * (PAGE_SIZE >> 10) / 20, 256 << 10);
	mutex_lock(&all_lock);
	list_for_each_entry(other, &all, list)
		if (other != vs)
			taken += other->granted_kib;
	vs->granted_kib = taken < total ? min_t(u64, wanted, total - taken) : 0;
	if (vs->granted_kib < VIF_KIB_LEAST)
		vs->granted_kib = 0;
	mutex_unlock(&all_lock);
	return vs->granted_kib;
}

static const char *create(struct xenvif_vsnoop *vs, const struct settings *set)
{
	struct vsnoop_guest_config guest;
	struct vsnoop_config config;
	struct vsnoop_queue *queues;
	struct vsnoop_engine *engine;
	unsigned int i, num_queues = vs->vif->dev->num_tx_queues;
	void *memory;
	size_t bytes;
	u8 *slots;
	u64 now;

	if (!grant_kib(vs, set->vif_kib))
		return "error: the total budget is used up";
	vsnoop_defaults(&config);
	config.flows = FLOWS;
	config.custodies = CUSTODIES;
	config.guests = 1;
	config.idle_s = IDLE_S;
	get_random_bytes(config.seed, sizeof(config.seed));
	bytes = vsnoop_memory_needed(&config);
	memory = kvzalloc(bytes, GFP_KERNEL);
	queues = kvcalloc(num_queues, sizeof(*queues), GFP_KERNEL);
	slots = kvzalloc(FLOWS, GFP_KERNEL);
	if (!memory || !queues || !slots) {
		kvfree(memory);
		kvfree(queues);
		kvfree(slots);
		grant_kib(vs, 0);
		return "error: no memory";
	}
	for (i = 0; i < num_queues; i++) {
		__skb_queue_head_init(&queues[i].in_ring);
		__skb_queue_head_init(&queues[i].out);
	}
	fill_guest_config(&guest, set, vs->granted_kib);

	static_branch_inc(&xenvif_vsnoop_key);
	spin_lock_bh(&vs->lock);
	now = now_us();
	for (i = 0; vs->connected && i < vs->vif->num_queues; i++) {
		const struct xenvif_queue *queue = &vs->vif->queues[i];

		queues[i].seen = READ_ONCE(queue->rx.rsp_prod_pvt);
		queues[i].push_done = queues[i].seen;
	}
	vs->recording = vs->log;
	if (vs->recording) {
		config.log = log_record;
		config.log_context = vs;
	}
	engine = vsnoop_create(memory, bytes, &config);
	vsnoop_guest_open(engine, 0, &guest, now);
	vs->engine_memory = memory;
	vs->queues = queues;
	vs->tx_queue_of = slots;
	vs->closing = false;
	vs->in_flight = 0;
	vs->now = *set;
	WRITE_ONCE(vs->engine, engine);
	spin_unlock_bh(&vs->lock);
	vs->quiesced = false;
	return NULL;
}

/* Reads "hold,vif_kib=8192,..."; NULL if it is well formed, else what is not. */
static const char *parse(char *text, struct settings *set)
{
	char *word = strsep(&text, ",");
	unsigned int number;

	*set = (struct settings){ .vif_kib = VIF_KIB_DEFAULT, .flow_kib = FLOW_KIB_DEFAULT,
				  .early_sack = true };
	if (!strcmp(word, "off") || !*word)
		set->policy = VSNOOP_POLICY_OFF;
	else if (!strcmp(word, "ring"))
		set->policy = VSNOOP_POLICY_RING;
	else if (!strcmp(word, "hold"))
		set->policy = VSNOOP_POLICY_HOLD;
	else
		return word;
	while ((word = strsep(&text, ","))) {
		if (sscanf(word, "vif_kib=%u", &number) == 1 && number >= VIF_KIB_LEAST &&
		    number <= 1 << 21)
			set->vif_kib = number;
		else if (sscanf(word, "flow_kib=%u", &number) == 1 && number >= 64 &&
			 number <= 1 << 21)
			set->flow_kib = number;
		else if (!strcmp(word, "early_sack=0") || !strcmp(word, "early_sack=1"))
			set->early_sack = word[11] == '1';
		else if (!strcmp(word, "engage=always"))
			set->engage = VSNOOP_ENGAGE_ALWAYS;
		else if (!strcmp(word, "engage=auto"))
			set->engage = VSNOOP_ENGAGE_AUTO;
		else
			return word;
	}
	return NULL;
}

static void say(struct xenvif_vsnoop *vs, const char *state)
{
	struct xenbus_device *dev = xenvif_to_xenbus_device(vs->vif);

	if (!strcmp(state, vs->state))
		return;
	strscpy(vs->state, state, sizeof(vs->state));
	xenbus_write(XBT_NIL, dev->nodename, "vsnoop-state", state);
}

/* Why this frontend cannot be promised for; NULL: it can. */
static const char *unfit(const struct xenvif *vif)
{
	if (!vif->stall_timeout)
		return "error: frontend lacks feature-rx-notify";
	if (vif->xdp_headroom)
		return "error: frontend uses XDP";
	return NULL;
}

/*
 * Makes what is, what xenstore, the module's switch and the frontend say. Looks
 * again in a while as long as something drains: nothing here waits, because all
 * of dom0 shares the thread that xenbus calls back on.
 */
static void configure(struct work_struct *work)
{
	struct xenvif_vsnoop *vs = container_of(to_delayed_work(work), struct xenvif_vsnoop, work);
	struct xenbus_device *dev = xenvif_to_xenbus_device(vs->vif);
	static const char * const names[] = { "off", "ring", "hold" };
	const char *wrong = NULL, *error = NULL;
	const struct vsnoop_guest_stats *stats;
	struct vsnoop_guest_config guest;
	bool quiesce, leave, changed, drained, connected;
	struct settings want;
	char *text, message[80];

	text = xenbus_read(XBT_NIL, dev->nodename, "vsnoop", NULL);
	if (IS_ERR(text)) {
		want = (struct settings){ .policy = VSNOOP_POLICY_OFF };
	} else {
		wrong = parse(text, &want);
		if (wrong) {
			snprintf(message, sizeof(message), "error: no such setting: %s", wrong);
			want = vs->now;
		}
		kfree(text);
	}
	quiesce = xenbus_read_unsigned(dev->nodename, "vsnoop/quiesce", 0);
	spin_lock_bh(&vs->lock);
	connected = vs->connected;
	spin_unlock_bh(&vs->lock);

	if (!READ_ONCE(vsnoop_switch))
		want.policy = VSNOOP_POLICY_OFF;
	if (want.policy != VSNOOP_POLICY_OFF && connected) {
		error = unfit(vs->vif);
		if (error)
			want.policy = VSNOOP_POLICY_OFF;
	}

	/* A policy is changed by way of off: promises of two kinds do not mix. */
	leave = vs->engine && want.policy != vs->now.policy;
	changed = vs->engine && !leave && memcmp(&want, &vs->now, sizeof(want));
	if (changed && !grant_kib(vs, want.vif_kib)) {
		grant_kib(vs, vs->now.vif_kib);
		error = "error: the total budget is used up";
		changed = false;
	}
	if (vs->engine) {
		spin_lock_bh(&vs->lock);
		if ((leave || quiesce) != vs->quiesced)
			vsnoop_guest_quiesce(vs->engine, 0, leave || quiesce, now_us());
		vs->quiesced = leave || quiesce;
		stats = vsnoop_stats(vs->engine, 0);
		drained = !stats->outstanding;
		vs->closing = leave && drained;
		if (vs->closing && vs->in_flight)
			drained = false;
		if (changed) {
			vs->now = want;
			fill_guest_config(&guest, &want, vs->granted_kib);
			vsnoop_guest_open(vs->engine, 0, &guest, now_us());
		}
		spin_unlock_bh(&vs->lock);
		if (vs->quiesced) {
			if (leave && drained) {
				destroy(vs);
			} else if (!drained) {
				say(vs, "quiescing");
				schedule_delayed_work(&vs->work, DRAIN_INTERVAL);
				return;
			}
		}
	}
	if (!vs->engine && want.policy != VSNOOP_POLICY_OFF && connected)
		error = create(vs, &want);

	if (wrong)
		say(vs, message);
	else if (error)
		say(vs, error);
	else if (want.policy == VSNOOP_POLICY_OFF)
		say(vs, "off");
	else if (!connected)
		say(vs, "waiting");
	else if (quiesce)
		say(vs, "quiesced");
	else
		say(vs, names[want.policy]);
	if (vs->engine && quiesce && !vs->quiesced)
		schedule_delayed_work(&vs->work, 0);
}

static void key_changed(struct xenbus_watch *watch, const char *path, const char *token)
{
	struct xenvif_vsnoop *vs = container_of(watch, struct xenvif_vsnoop, watch);

	mod_delayed_work(system_wq, &vs->work, 0);
}

/**
 * xenvif_vsnoop_init - a vif was created
 * @vif: it
 *
 * Return: 0 or a negative errno.
 */
int xenvif_vsnoop_init(struct xenvif *vif)
{
	struct xenbus_device *dev = xenvif_to_xenbus_device(vif);
	struct xenvif_vsnoop *vs;
	int err;

	BUILD_BUG_ON(sizeof(struct xenvif_rx_cb) > sizeof_field(struct sk_buff, cb));

	vs = kzalloc(sizeof(*vs), GFP_KERNEL);
	if (!vs)
		return -ENOMEM;
	vs->vif = vif;
	spin_lock_init(&vs->lock);
	timer_setup(&vs->timer, run_timer, 0);
	INIT_DELAYED_WORK(&vs->work, configure);
	vs->watch.node = kasprintf(GFP_KERNEL, "%s/vsnoop", dev->nodename);
	vs->watch.callback = key_changed;
	if (!vs->watch.node) {
		kfree(vs);
		return -ENOMEM;
	}
	vif->vsnoop = vs;
	mutex_lock(&all_lock);
	list_add_tail(&vs->list, &all);
	mutex_unlock(&all_lock);
	err = register_xenbus_watch(&vs->watch);
	if (err) {
		kfree(vs->watch.node);
		vs->watch.node = NULL;
		xenvif_vsnoop_exit(vif);
	}
	return err;
}

/**
 * xenvif_vsnoop_exit - a vif goes for good
 * @vif: it; its network device is unregistered, or was never used
 */
void xenvif_vsnoop_exit(struct xenvif *vif)
{
	struct xenvif_vsnoop *vs = vif->vsnoop;

	if (!vs)
		return;
	if (vs->watch.node) {
		unregister_xenbus_watch(&vs->watch);
		kfree(vs->watch.node);
	}
	mutex_lock(&all_lock);
	list_del(&vs->list);
	mutex_unlock(&all_lock);
	cancel_delayed_work_sync(&vs->work);
	destroy(vs);
	del_timer_sync(&vs->timer);
	vif->vsnoop = NULL;
	kfree(vs);
}

static u64 features_of(const struct xenvif *vif)
{
	return vif->gso_mask | (u64)vif->can_sg << 32 | (u64)vif->ip_csum << 33 |
	       (u64)vif->ipv6_csum << 34;
}

/**
 * xenvif_vsnoop_connect - the frontend is connected, queues run
 * @vif: it
 *
 * What is still in custody from before (the guest was suspended and resumed
 * here, say) goes on; unless the frontend can no longer take such frames.
 */
void xenvif_vsnoop_connect(struct xenvif *vif)
{
	struct xenvif_vsnoop *vs = vif->vsnoop;
	const bool less = vs->features & ~features_of(vif);
	struct vsnoop_held *released = NULL;
	unsigned int i;

	vs->features = features_of(vif);
	spin_lock_bh(&vs->lock);
	vs->connected = true;
	if (vs->engine) {
		for (i = 0; i < vif->num_queues; i++) {
			struct vsnoop_queue *vq = &vs->queues[i];

			vq->seen = READ_ONCE(vif->queues[i].rx.rsp_prod_pvt);
			vq->push_done = vq->seen;
		}
		if (less)
			released = vsnoop_guest_stop(vs->engine, 0, now_us());
		napi_schedule(&vif->queues[0].napi);
	}
	spin_unlock_bh(&vs->lock);
	free_held(vif, released);
	mod_delayed_work(system_wq, &vs->work, 0);
}

/**
 * xenvif_vsnoop_stop - fail-stop: what is promised cannot be kept
 * @vif: the carrier must still be on, for the resets to go out
 *
 * Context: process.
 */
void xenvif_vsnoop_stop(struct xenvif *vif)
{
	struct xenvif_vsnoop *vs = vif->vsnoop;
	struct vsnoop_held *released = NULL;
	struct sk_buff_head out;
	unsigned int i;
	u64 now;

	if (!vs || !READ_ONCE(vs->engine))
		return;
	__skb_queue_head_init(&out);
	spin_lock_bh(&vs->lock);
	if (vs->engine && vs->connected) {
		now = now_us();
		/* What the guest acknowledged last may still be in its ring; what
		 * it has picked up is no more ours to deliver.
		 */
		released = reap_all(vs, now);
		released = chain(released, vsnoop_guest_stop(vs->engine, 0, now));
		emit(vs, now);
		for (i = 0; i < vif->num_queues; i++)
			skb_queue_splice_tail_init(&vs->queues[i].out, &out);
	}
	spin_unlock_bh(&vs->lock);
	free_held(vif, released);
	local_bh_disable();
	receive(&out);
	local_bh_enable();
}

/**
 * xenvif_vsnoop_disconnect - the frontend goes, the carrier is still on
 * @vif: it
 */
void xenvif_vsnoop_disconnect(struct xenvif *vif)
{
	struct xenvif_vsnoop *vs = vif->vsnoop;

	/* If it may come back, custody waits for it. */
	if (!xenbus_dev_is_online(xenvif_to_xenbus_device(vif)))
		xenvif_vsnoop_stop(vif);
	spin_lock_bh(&vs->lock);
	vs->connected = false;
	spin_unlock_bh(&vs->lock);
}

/**
 * xenvif_vsnoop_disconnected - no thread works on the queues any more
 * @vif: it; its queues are about to be freed
 *
 * What was copied but not picked up is thrown away by the frontend.
 */
void xenvif_vsnoop_disconnected(struct xenvif *vif)
{
	struct xenvif_vsnoop *vs = vif->vsnoop;
	struct sk_buff_head gone;
	struct sk_buff *skb;
	unsigned int i;
	u64 now;

	__skb_queue_head_init(&gone);
	spin_lock_bh(&vs->lock);
	now = now_us();
	for (i = 0; vs->engine && i < vif->dev->num_tx_queues; i++) {
		struct vsnoop_queue *vq = &vs->queues[i];
		u32 slot, memory = 0;

		skb_queue_splice_tail_init(&vq->out, &gone);
		while ((skb = __skb_dequeue_tail(&vq->in_ring))) {
			struct sk_buff *whole = skb;

			if (cb_of(skb)->kind == XENVIF_VSNOOP_COPY) {
				whole = cb_of(skb)->whole;
				__skb_queue_tail(&gone, skb);
			}
			vsnoop_returned(vs->engine, &cb_of(whole)->held, now);
		}
		for (slot = 0; slot < XEN_NETIF_RX_RING_SIZE; slot++) {
			memory += vq->push_memory[slot];
			vq->push_memory[slot] = 0;
		}
		if (memory)
			vsnoop_progress(vs->engine, 0, memory, now);
	}
	spin_unlock_bh(&vs->lock);
	__skb_queue_purge(&gone);
	mod_delayed_work(system_wq, &vs->work, 0);
}

/**
 * xenvif_vsnoop_reconsider - something that settings depend on has changed
 * @vif: whose
 */
void xenvif_vsnoop_reconsider(struct xenvif *vif)
{
	mod_delayed_work(system_wq, &vif->vsnoop->work, 0);
}

/* ---- what can be seen */

static const struct {
	const char *name;
	size_t offset;	/* of a u64 */
} counters[] = {
#define COUNTER(field) offsetof(struct vsnoop_guest_stats, field)
	{ "vsnoop_early_acks", COUNTER(early_acks) },
	{ "vsnoop_promised_bytes", COUNTER(promised_bytes) },
	{ "vsnoop_redelivered_frames", COUNTER(redelivered_frames) },
	{ "vsnoop_acks_dropped", COUNTER(acks_dropped) },
	{ "vsnoop_acks_edited", COUNTER(acks_edited) },
	{ "vsnoop_latency_samples", COUNTER(latency_samples) },
	{ "vsnoop_latency_us_sum", COUNTER(latency_us_sum) },
	{ "vsnoop_used", COUNTER(used) },
	{ "vsnoop_held", COUNTER(held) },
	{ "vsnoop_peak_held", COUNTER(peak_held) },
	{ "vsnoop_outstanding", COUNTER(outstanding) },
#undef COUNTER
};

int xenvif_vsnoop_stats_count(void)
{
	return ARRAY_SIZE(counters) + 2 + VSNOOP_REASONS;
}

void xenvif_vsnoop_stats_strings(u8 *data)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(counters); i++)
		ethtool_sprintf(&data, "%s", counters[i].name);
	ethtool_sprintf(&data, "vsnoop_flows_outstanding");
	ethtool_sprintf(&data, "vsnoop_flows");
	for (i = 0; i < VSNOOP_REASONS; i++)
		ethtool_sprintf(&data, "vsnoop_r_%s", vsnoop_reason_name(i));
}

void xenvif_vsnoop_stats_values(struct xenvif *vif, u64 *data)
{
	struct xenvif_vsnoop *vs = vif->vsnoop;
	const struct vsnoop_guest_stats *stats;
	unsigned int i;

	memset(data, 0, xenvif_vsnoop_stats_count() * sizeof(*data));
	spin_lock_bh(&vs->lock);
	if (vs->engine) {
		stats = vsnoop_stats(vs->engine, 0);
		for (i = 0; i < ARRAY_SIZE(counters); i++)
			*data++ = *(const u64 *)((const void *)stats + counters[i].offset);
		*data++ = stats->flows_outstanding;
		*data++ = vsnoop_flows(vs->engine);
		memcpy(data, stats->reasons, sizeof(stats->reasons));
	}
	spin_unlock_bh(&vs->lock);
}

#ifdef CONFIG_DEBUG_FS
static const char * const flow_states[] = { "active", "closing", "draining", "stopped" };

static void show_endpoint(struct seq_file *m, const u8 *address, u16 port)
{
	if (ipv6_addr_v4mapped((const struct in6_addr *)address))
		seq_printf(m, "%pI4:%u ", address + 12, port);
	else
		seq_printf(m, "[%pI6c]:%u ", address, port);
}

static int vsnoop_flows_show(struct seq_file *m, void *v)
{
	struct xenvif_vsnoop *vs = m->private;
	struct vsnoop_flow_info flow;
	u32 cursor = 0;
	int more;

	seq_puts(m, "guest peer state pause promised held reserved latency_us holes\n");
	for (;;) {
		spin_lock_bh(&vs->lock);
		more = vs->engine && vsnoop_flow_next(vs->engine, &cursor, &flow);
		spin_unlock_bh(&vs->lock);
		if (!more)
			return 0;
		show_endpoint(m, flow.guest_address, flow.guest_port);
		show_endpoint(m, flow.peer_address, flow.peer_port);
		seq_printf(m, "%s %s %u %u %u %u %u\n",
			   flow_states[flow.state], vsnoop_reason_name(flow.pause),
			   flow.early_ack - flow.guest_ack, flow.held, flow.reserved,
			   flow.latency_us, flow.holes);
	}
}
DEFINE_SHOW_ATTRIBUTE(vsnoop_flows);

static int log_open(struct inode *inode, struct file *file)
{
	struct xenvif_vsnoop *vs = inode->i_private;
	struct decision_log *log = kzalloc(sizeof(*log), GFP_KERNEL);
	int err = 0;

	if (!log)
		return -ENOMEM;
	init_waitqueue_head(&log->wait);
	log->bytes = vmalloc(LOG_BYTES);
	if (!log->bytes) {
		kfree(log);
		return -ENOMEM;
	}
	spin_lock_bh(&vs->lock);
	if (vs->log)
		err = -EBUSY;
	else
		vs->log = log;
	spin_unlock_bh(&vs->lock);
	if (err) {
		vfree(log->bytes);
		kfree(log);
		return err;
	}
	file->private_data = log;
	return nonseekable_open(inode, file);
}

static int log_release(struct inode *inode, struct file *file)
{
	struct xenvif_vsnoop *vs = inode->i_private;
	struct decision_log *log = file->private_data;

	spin_lock_bh(&vs->lock);
	vs->log = NULL;
	vs->recording = false;
	spin_unlock_bh(&vs->lock);
	vfree(log->bytes);
	kfree(log);
	return 0;
}

static ssize_t log_read(struct file *file, char __user *to, size_t count, loff_t *pos)
{
	struct xenvif_vsnoop *vs = file_inode(file)->i_private;
	struct decision_log *log = file->private_data;
	u32 head, length;
	int err;

	if (READ_ONCE(log->head) == log->tail) {
		if (READ_ONCE(log->lost))
			return -EOVERFLOW;
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		err = wait_event_interruptible(log->wait, READ_ONCE(log->head) != log->tail ||
					       READ_ONCE(log->lost));
		if (err)
			return err;
	}
	spin_lock_bh(&vs->lock);
	head = log->head;
	spin_unlock_bh(&vs->lock);
	length = min_t(size_t, count, head - log->tail);
	length = min(length, LOG_BYTES - log->tail % LOG_BYTES);
	if (copy_to_user(to, log->bytes + log->tail % LOG_BYTES, length))
		return -EFAULT;
	spin_lock_bh(&vs->lock);
	log->tail += length;
	spin_unlock_bh(&vs->lock);
	return length;
}

static const struct file_operations log_fops = {
	.owner = THIS_MODULE,
	.open = log_open,
	.read = log_read,
	.release = log_release,
};

void xenvif_vsnoop_debugfs(struct xenvif *vif, struct dentry *dir)
{
	debugfs_create_file("vsnoop_flows", 0400, dir, vif->vsnoop, &vsnoop_flows_fops);
	debugfs_create_file("vsnoop_log", 0400, dir, vif->vsnoop, &log_fops);
}
#endif /* CONFIG_DEBUG_FS */
