/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vsnoop in xen-netback: acknowledges TCP data on behalf of a guest that waits
 * for its CPU. This is all that netback's own files know of it; the packet
 * logic is snoop-core (C++, one object, face snoop-core/vsnoop.h).
 *
 * Direction names are the guest's: rx is network to guest, tx guest to network.
 */
#ifndef __XEN_NETBACK__VSNOOP_H__
#define __XEN_NETBACK__VSNOOP_H__

#include <linux/jump_label.h>
#include <linux/types.h>
#include "snoop-core/vsnoop.h"

struct dentry;
struct sk_buff;
struct sk_buff_head;
struct xenvif;
struct xenvif_queue;
struct xenvif_vsnoop;

/* What an skb on rx_queue is to vsnoop. */
enum xenvif_vsnoop_kind {
	XENVIF_VSNOOP_NONE,	/* nothing: upstream's */
	XENVIF_VSNOOP_QUEUED,	/* came through a flow's backlog, unpromised */
	XENVIF_VSNOOP_HELD,	/* in custody until the guest confirms it */
	XENVIF_VSNOOP_COPY,	/* a part of one in custody */
	XENVIF_VSNOOP_PIECE,	/* ... of which nobody wants to know when it is taken */
	XENVIF_VSNOOP_PUSHED,	/* ring policy: promised once it is copied */
};

/* Lives in skb->cb behind upstream's fields, while netback owns the skb. */
struct xenvif_vsnoop_cb {
	u8 kind;		/* enum xenvif_vsnoop_kind */
	u8 failed;		/* a grant copy of it failed */
	union {
		struct vsnoop_held held;	/* HELD, QUEUED */
		struct sk_buff *whole;		/* COPY: the one in custody */
		struct {			/* PUSHED: the verdict */
			u32 seq;
			u32 length;
			u32 memory;
			struct vsnoop_ref flow;
			u8 flags;
			u8 retain;
		} push;
	};
};

DECLARE_STATIC_KEY_FALSE(xenvif_vsnoop_key);

int xenvif_vsnoop_init(struct xenvif *vif);
void xenvif_vsnoop_exit(struct xenvif *vif);
void xenvif_vsnoop_connect(struct xenvif *vif);
void xenvif_vsnoop_disconnect(struct xenvif *vif);
void xenvif_vsnoop_disconnected(struct xenvif *vif);
void xenvif_vsnoop_stop(struct xenvif *vif);
void xenvif_vsnoop_reconsider(struct xenvif *vif);

void xenvif_vsnoop_debugfs(struct xenvif *vif, struct dentry *dir);
int xenvif_vsnoop_stats_count(void);
void xenvif_vsnoop_stats_strings(u8 *data);
void xenvif_vsnoop_stats_values(struct xenvif *vif, u64 *data);

bool __xenvif_vsnoop_rx(struct xenvif_queue *queue, struct sk_buff *skb);
bool __xenvif_vsnoop_tx(struct xenvif_queue *queue, struct sk_buff *skb);
int __xenvif_vsnoop_poll(struct xenvif_queue *queue, int work_done, int budget);
void __xenvif_vsnoop_copied(struct xenvif_queue *queue,
			    struct sk_buff_head *skbs);
void __xenvif_vsnoop_unsent(struct xenvif_queue *queue,
			    struct sk_buff_head *skbs);

/* From the network, before it is queued; true: vsnoop has taken care of it. */
static inline bool xenvif_vsnoop_rx(struct xenvif_queue *queue,
				    struct sk_buff *skb)
{
	return static_branch_unlikely(&xenvif_vsnoop_key) &&
	       __xenvif_vsnoop_rx(queue, skb);
}

/* From the guest, before it is received; false: the peer need not see it. */
static inline bool xenvif_vsnoop_tx(struct xenvif_queue *queue,
				    struct sk_buff *skb)
{
	return !static_branch_unlikely(&xenvif_vsnoop_key) ||
	       __xenvif_vsnoop_tx(queue, skb);
}

/* At the end of a poll: sends what is owed to peers. Returns what to report as
 * work done.
 */
static inline int xenvif_vsnoop_poll(struct xenvif_queue *queue, int work_done,
				     int budget)
{
	if (!static_branch_unlikely(&xenvif_vsnoop_key))
		return work_done;
	return __xenvif_vsnoop_poll(queue, work_done, budget);
}

/* Responses for all of @skbs are pushed; takes those off the list it keeps. */
static inline void xenvif_vsnoop_copied(struct xenvif_queue *queue,
					struct sk_buff_head *skbs)
{
	if (static_branch_unlikely(&xenvif_vsnoop_key))
		__xenvif_vsnoop_copied(queue, skbs);
}

/* @skbs, oldest first, leave rx_queue without reaching the guest; takes those
 * off the list that it keeps.
 */
static inline void xenvif_vsnoop_unsent(struct xenvif_queue *queue,
					struct sk_buff_head *skbs)
{
	if (static_branch_unlikely(&xenvif_vsnoop_key))
		__xenvif_vsnoop_unsent(queue, skbs);
}

#endif /* __XEN_NETBACK__VSNOOP_H__ */
