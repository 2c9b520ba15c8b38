/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vsnoop in xen-netback: the host of snoop-core in a driver domain.
 *
 * The engine (C++) decides, this module does: it owns the frames, the clock, the
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
#ifndef __XEN_NETBACK__VSNOOP_PRIVATE_H__
#define __XEN_NETBACK__VSNOOP_PRIVATE_H__

#include "common.h"
#include "vsnoop_compat.h"
#include "vsnoop_netback.h"

#include <linux/ktime.h>

/* Flows of one engine: the most, and where memory is short. A quarter of them may have
 * something outstanding.
 */
#define FLOWS_MOST 4096
#define FLOWS_LEAST 1024
#define IDLE_S 8000

/* Bytes of a frame that have to be readable for the engine: Ethernet, two VLAN
 * tags, IPv6 with little extra, TCP with all options.
 */
#define HEADERS_FROM_PEER 160
#define HEADERS_FROM_GUEST 114

#define VIF_KIB_DEFAULT 16384
#define VIF_KIB_LEAST 256
#define VIF_KIB_MOST (2048 << 10)	/* that may be set */
#define LIMIT_KIB_MOST (256u << 10)	/* that is lent: it is let go at once, if need be */
#define FLOW_KIB_DEFAULT 4096
#define FLOW_KIB_LEAST 64

/* The settings of one vif, as its key in xenstore says. */
struct vs_settings {
	u8 policy;		/* enum vsnoop_policy */
	u8 engage;		/* enum vsnoop_engage */
	bool early_sack;
	u32 vif_kib;
	u32 flow_kib;
};

struct vs_queue {
	struct sk_buff_head in_ring;	/* copied, not seen to be picked up */
	struct sk_buff_head out;	/* ACKs another CPU built for this queue */
	bool kick;			/* feed() has put something on rx_queue */
	u32 queued_bytes;		/* custody bytes on rx_queue */
	u32 aside;			/* length of a frame that found it full; 0: it is not */
	RING_IDX seen;			/* responses the guest has picked up */
	RING_IDX push_done;		/* push_memory is accounted up to here */
	u32 push_memory[XEN_NETIF_RX_RING_SIZE]; /* by last slot; ring policy */
};

/* Parts for re-delivery are copies: none is made that does not fit. The last one may take
 * twice its bytes, and a frame has 64 KiB.
 */
#define COPIES_MOST (128u << 10)
#define COPIES_CHARGED (COPIES_MOST + (65u << 10))

struct vs_log;

struct xenvif_vsnoop {
	struct xenvif *vif;

	spinlock_t lock;		/* everything down to the next blank line */
	struct vsnoop_engine *engine;
	void *engine_memory;
	struct vs_queue *queues;
	u32 flows;			/* slots that the engine has for them */
	u16 *tx_queue_of;		/* by flow slot: where its segments come from */
	unsigned int in_flight;		/* skbs of ours on rx_queues */
	unsigned int aside;		/* queues whose flows wait aside */
	u32 copies;			/* memory of XENVIF_VSNOOP_COPY and PIECE */
	bool connected;
	bool leaving;			/* feed nothing more: the engine goes */
	bool less;			/* nor a frontend that cannot take what is held */
	struct vs_log *log;		/* a reader has it open; vsnoop_log.c */
	bool recording;			/* and had before the engine's life began */
	unsigned long gone_at;		/* unless connected: when the frontend went */

	struct timer_list timer;
	struct delayed_work work;	/* configure() */
	struct xenbus_watch watch;
	bool log_shut;			/* its file is about to go; vsnoop_log.c */

	/* configure() only */
	struct vs_settings now;		/* what the engine was opened with */
	bool quiesced;
	char state[80];			/* as last written to xenstore */
	char *taken;			/* and the setting that it answers */

	struct list_head list;		/* all of them, under vs_all_lock */
	/* under vs_all_lock, see vsnoop_budget.c; KiB */
	u32 want_kib;			/* as set; 0: not switched on */
	u32 limit_kib;			/* the engine's budget; 0: it waits for one */
	u32 used_kib;			/* as last seen */
	u32 fixed_kib;			/* engine, queues, copies for re-delivery */

	u64 features;			/* of the frontend last connected */
};

extern struct mutex vs_all_lock;
extern struct list_head vs_all;

/* A frontend may come back with more queues than the interface was made for (the
 * module's max_queues was raised meanwhile): it is not promised for.
 */
static inline bool vs_has_queue(const struct xenvif_queue *queue)
{
	return queue->id < queue->vif->dev->num_tx_queues;
}

static inline u64 vs_now(void)
{
	return ktime_to_us(ktime_get());
}

static inline struct xenvif_vsnoop_cb *vs_cb(const struct sk_buff *skb)
{
	return &XENVIF_RX_CB(skb)->vsnoop;
}

static inline struct sk_buff *vs_skb(struct vsnoop_held *held)
{
	void *cb = container_of(held, struct xenvif_rx_cb, vsnoop.held);

	return container_of(cb, struct sk_buff, cb);
}

/* vsnoop_frame.c */
u32 vs_cost(struct sk_buff *skb, bool *copy);
struct sk_buff *vs_make_ours(struct sk_buff *skb, bool copy);
u8 vs_checksum(const struct sk_buff *skb, int offset, __be16 type);
void vs_make_readable(struct sk_buff *skb, unsigned int headers);

static inline void vs_free_copy(struct xenvif_vsnoop *vs, struct sk_buff *skb)
{
	vs->copies -= skb->truesize;
	consume_skb(skb);
}

/* towards the guest: vsnoop_rx.c, vsnoop_feed.c */
struct vsnoop_held *vs_feed(struct xenvif_vsnoop *vs, u64 now);
struct vsnoop_held *vs_reap(struct xenvif_vsnoop *vs, struct xenvif_queue *queue, u64 now);
struct vsnoop_held *vs_reap_all(struct xenvif_vsnoop *vs, u64 now);
void vs_resume_all(struct xenvif_vsnoop *vs);
void vs_reset_ring(struct xenvif_vsnoop *vs, const struct xenvif_queue *queue);
void vs_free(struct xenvif *vif, struct vsnoop_held *held);
struct vsnoop_held *vs_chain(struct vsnoop_held *list, struct vsnoop_held *more);

/* from the guest, and what is owed: vsnoop_tx.c */
struct sk_buff *vs_alloc_emission(gfp_t gfp);
unsigned int vs_emit(struct xenvif_vsnoop *vs, unsigned int most, struct sk_buff_head *spare,
		     u64 now);
void vs_receive(struct sk_buff_head *skbs);

/* vsnoop_timer.c */
void vs_arm_timer(struct xenvif_vsnoop *vs, u64 now);
void vs_wake(struct xenvif_vsnoop *vs, struct xenvif_queue *queue, u64 now);
void vs_run_timer(struct timer_list *timer);

/* vsnoop_budget.c */
u32 vs_budget_join(struct xenvif_vsnoop *vs, u32 want_kib, u32 fixed_kib);
void vs_budget_leave(struct xenvif_vsnoop *vs);
u32 vs_budget_short(const struct xenvif_vsnoop *vs);
void vs_budget_press(struct xenvif_vsnoop *vs);
unsigned int vs_budget_sharers(u32 *total);
u32 vs_budget_total(void);
void vs_budget_exit(void);

/* vsnoop_life.c */
void vs_set_budget(struct xenvif_vsnoop *vs);

/* vsnoop_settings.c */
const char *vs_parse_settings(char *text, struct vs_settings *set);
bool vs_same_settings(const struct vs_settings *one, const struct vs_settings *other);
void vs_fill_guest_config(struct vsnoop_guest_config *guest, const struct vs_settings *set,
			  u32 limit_kib);

/* vsnoop_log.c */
void vs_log_record(void *context, const u8 *bytes, u32 length);
void vs_log_end(struct xenvif_vsnoop *vs);
extern const struct file_operations vs_log_fops;

#endif /* __XEN_NETBACK__VSNOOP_PRIVATE_H__ */
