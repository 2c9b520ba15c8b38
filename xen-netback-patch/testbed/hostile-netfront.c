// SPDX-License-Identifier: GPL-2.0-only
/*
 * Not for use: a frontend that keeps to no rule, for the testbed's scenario "hostile". It takes the
 * guest's second vif (the first is xen-netfront's) and lives one life after the other on it: writes
 * keys, connects, behaves for a while so that TCP connections run and promises are open, then does
 * some of what `acts` allows, and goes, in good order or in none. All by `seed`.
 *
 * Everything is polled: what the backend says to it counts only where a life would otherwise end
 * before it has begun.
 */
#include <linux/delay.h>
#include <linux/etherdevice.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/prandom.h>
#include <linux/slab.h>
#include <linux/tcp.h>
#include <net/checksum.h>
#include <net/tcp.h>
#include <xen/events.h>
#include <xen/grant_table.h>
#include <xen/interface/io/netif.h>
#include <xen/page.h>
#include <xen/xen.h>
#include <xen/xenbus.h>

#define RING __CONST_RING_SIZE(xen_netif_rx, XEN_PAGE_SIZE)
#define PAGES 64u		/* to receive into, and as many to send from */
#define QUEUES_MOST 72u
#define FLOWS 32u

enum act {
	RX_JUMP,	/* rx req_prod anywhere */
	RX_BACK,	/* rx req_prod backwards */
	RX_FREEZE,	/* nothing posted, nothing picked up */
	RX_EVENT,	/* rsp_event anywhere */
	RX_REFS,	/* grant references that are not, or not for this */
	BACKEND_FIELDS,	/* the backend's fields of the shared page */
	TX_BAD,		/* requests with wrong offset, size, flags, reference */
	TX_CHAIN,	/* packets of many requests, too many, and without an end */
	TX_EXTRA,	/* extra infos of all kinds */
	TX_JUMP,	/* tx req_prod anywhere: the backend disables the vif */
	VANISH,		/* grants are taken back */
	KEYS,		/* keys change while connected, some out of range */
	SETUP,		/* keys and rings are wrong from the start */
	CTRL,		/* requests on the control ring */
	STORM,		/* many events */
	STATES,		/* goes, and comes, in every order */
	UNKNOWN,	/* the state or its key vanish: the backend gives up the vif */
	TCP_LIES,	/* ACKs that are late, old, too high; windows that close */
	ACTS
};

static ulong seed = 1;
module_param(seed, ulong, 0444);
static uint acts = BIT(ACTS) - 1;
module_param(acts, uint, 0644);
MODULE_PARM_DESC(acts, "Which of enum act may happen, by bit");
static uint queues;
module_param(queues, uint, 0644);
MODULE_PARM_DESC(queues, "Number of queues (0: any)");
static bool paused;
module_param(paused, bool, 0644);
MODULE_PARM_DESC(paused, "Does nothing between two lives");
static uint linger;
module_param(linger, uint, 0644);
MODULE_PARM_DESC(linger, "ms to stay after the backend has disabled the vif");
static uint lives, connected_lives, steps, segments;
module_param(lives, uint, 0444);
module_param(connected_lives, uint, 0444);
module_param(steps, uint, 0444);
module_param(segments, uint, 0444);
static char *script = "";
module_param(script, charp, 0644);
MODULE_PARM_DESC(script, "states to go through at the end of a life, by digit (''; any)");

struct granted {
	struct page *page;
	int ref;	/* < 0: not granted */
};

struct queue {
	struct xen_netif_tx_sring *tx;
	struct xen_netif_rx_sring *rx;
	struct granted tx_ring, rx_ring;
	unsigned int irq;
	evtchn_port_t port;
	RING_IDX tx_prod, rx_prod, rx_cons;
	bool frozen;
};

struct flow {
	__be32 address;
	__be16 port;
	u32 next;	/* expected of the peer */
	u32 mine;
};

struct hostile {
	struct xenbus_device *dev;
	struct task_struct *thread;
	struct rnd_state random;
	unsigned int num_queues;
	struct queue *queues;
	struct granted rx[PAGES], tx[PAGES];
	unsigned int tx_page;
	struct granted ctrl_ring;
	struct xen_netif_ctrl_sring *ctrl;
	unsigned int ctrl_irq;
	u32 now;	/* which acts this life may do */
	u8 mac[ETH_ALEN], peer[ETH_ALEN];	/* of the peer heard last; there is one */
	__be32 address;
	struct flow flows[FLOWS];
};

static u32 below(struct hostile *h, u32 most)
{
	return prandom_u32_state(&h->random) % most;
}

static bool one_in(struct hostile *h, u32 n)
{
	return below(h, n) == 0;
}

static u32 any(struct hostile *h)
{
	return prandom_u32_state(&h->random);
}

/* A number around a boundary. */
static u32 edge(struct hostile *h)
{
	static const u32 at[] = { 0, 1, 2, 14, 60, 64, 128, 255, 256, 1500, 2048, 4095, 4096,
				  0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0xffffffff };

	return one_in(h, 4) ? any(h) : at[below(h, ARRAY_SIZE(at))] + below(h, 3) - 1;
}

static bool may(const struct hostile *h, enum act act)
{
	return h->now & BIT(act);
}

/* ---- grants */

static void give(struct hostile *h, struct granted *g)
{
	if (g->ref < 0)
		g->ref = gnttab_grant_foreign_access(h->dev->otherend_id,
						     xen_page_to_gfn(g->page), 0);
}

/* Takes it back, used or not: the page stays with us. */
static void take(struct granted *g)
{
	if (g->ref >= 0)
		gnttab_end_foreign_access(g->ref, NULL);
	g->ref = -1;
}

static bool get_ring(struct hostile *h, struct granted *g)
{
	g->page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	g->ref = -1;
	if (g->page)
		give(h, g);
	return g->page;
}

static void put_ring(struct granted *g)
{
	if (!g->page)
		return;
	if (g->ref >= 0)
		gnttab_end_foreign_access(g->ref, g->page);
	else
		put_page(g->page);
	g->page = NULL;
	g->ref = -1;
}

/* ---- towards the backend */

static void notify(struct queue *q)
{
	if (q->irq)
		notify_remote_via_irq(q->irq);
}

static struct xen_netif_tx_request *tx_slot(struct queue *q)
{
	return &q->tx->ring[q->tx_prod++ % RING].req;
}

static void tx_push(struct queue *q)
{
	virt_wmb();
	WRITE_ONCE(q->tx->req_prod, q->tx_prod);
	notify(q);
}

static bool tx_full(const struct queue *q, unsigned int slots)
{
	const RING_IDX used = q->tx_prod - READ_ONCE(q->tx->rsp_prod);

	return used + slots > RING;
}

/* A page to send from, and where in it @length bytes have room. */
static u8 *tx_page(struct hostile *h, unsigned int length, struct xen_netif_tx_request *req)
{
	struct granted *g = &h->tx[h->tx_page++ % PAGES];

	give(h, g);
	req->gref = g->ref;
	req->offset = below(h, XEN_PAGE_SIZE - length + 1);
	req->size = length;
	req->flags = 0;
	req->id = below(h, RING);
	return (u8 *)page_address(g->page) + req->offset;
}

/* One segment to a peer; @options of them in 32 bit words. */
static void segment(struct hostile *h, struct queue *q, const struct flow *flow, __be16 from,
		    u32 seq, u32 ack, u8 flags, u16 window, unsigned int words)
{
	const unsigned int tcp_length = sizeof(struct tcphdr) + 4 * words;
	const unsigned int length = ETH_HLEN + sizeof(struct iphdr) + tcp_length;
	struct xen_netif_tx_request *req;
	struct tcphdr *th;
	struct iphdr *ip;
	u8 *at;

	if (tx_full(q, 1))
		return;
	req = tx_slot(q);
	at = tx_page(h, length, req);
	ether_addr_copy(at, h->peer);
	ether_addr_copy(at + ETH_ALEN, h->mac);
	*(__be16 *)(at + 12) = htons(ETH_P_IP);
	ip = (struct iphdr *)(at + ETH_HLEN);
	memset(ip, 0, sizeof(*ip) + tcp_length);
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = htons(length - ETH_HLEN);
	ip->ttl = 64;
	ip->protocol = IPPROTO_TCP;
	ip->saddr = h->address;
	ip->daddr = flow->address;
	ip->check = ip_fast_csum((u8 *)ip, ip->ihl);
	th = (struct tcphdr *)(ip + 1);
	th->source = from;
	th->dest = flow->port;
	th->seq = htonl(seq);
	th->ack_seq = htonl(ack);
	th->doff = tcp_length / 4;
	((u8 *)th)[13] = flags;
	th->window = htons(window);
	if (words && flags & TCPHDR_SYN) {
		static const u8 options[] = { 2, 4, 5, 180, 1, 3, 3, 2, 1, 1, 4, 2 };

		memcpy(th + 1, options, sizeof(options));
	} else if (words) {
		const u32 left = ack + 1 + below(h, 4 * 1448);
		const __be32 block[] = { htonl(0x0101050a), htonl(left), htonl(left + 1448) };

		memcpy(th + 1, block, sizeof(block));
	}
	th->check = csum_tcpudp_magic(ip->saddr, ip->daddr, tcp_length, IPPROTO_TCP,
				      csum_partial(th, tcp_length, 0));
	segments++;
	tx_push(q);
}

static struct flow *flow_of(struct hostile *h, const struct iphdr *ip, const struct tcphdr *th)
{
	return &h->flows[(ntohs(th->source) ^ ntohs(th->dest)) % FLOWS];
}

/* A TCP that reads everything and says what it likes. */
static void from_peer(struct hostile *h, struct queue *q, const u8 *at, unsigned int length)
{
	const struct iphdr *ip = (const struct iphdr *)(at + ETH_HLEN);
	const struct tcphdr *th = (const struct tcphdr *)(ip + 1);
	u16 window = 0xffff;
	struct flow *flow;
	u32 seq, data, ack;
	u8 flags;

	if (length < ETH_HLEN + sizeof(*ip) + sizeof(*th) ||
	    *(const __be16 *)(at + 12) != htons(ETH_P_IP) || ip->ihl != 5 ||
	    ip->protocol != IPPROTO_TCP || ip->daddr != h->address)
		return;
	ether_addr_copy(h->peer, at + ETH_ALEN);
	flags = ((const u8 *)th)[13];
	seq = ntohl(th->seq);
	data = ntohs(ip->tot_len) - sizeof(*ip) - 4 * th->doff;
	flow = flow_of(h, ip, th);
	if (flags & TCPHDR_SYN) {
		*flow = (struct flow){ ip->saddr, th->source, seq + 1, any(h) };
		segment(h, q, flow, th->dest, flow->mine++, flow->next,
			TCPHDR_SYN | TCPHDR_ACK, window, 3);
		return;
	}
	if (flow->port != th->source || flow->address != ip->saddr) {
		const struct flow stranger = { ip->saddr, th->source };

		if (!(flags & TCPHDR_RST) && one_in(h, 2))
			segment(h, q, &stranger, th->dest, ntohl(th->ack_seq), 0, TCPHDR_RST, 0, 0);
		return;
	}
	if (flags & TCPHDR_RST) {
		flow->port = 0;
		return;
	}
	if (seq == flow->next && data < 0x10000)
		flow->next += data + !!(flags & TCPHDR_FIN);
	if (!data && !(flags & TCPHDR_FIN))
		return;
	ack = flow->next;
	flags = TCPHDR_ACK;
	if (may(h, TCP_LIES)) {
		switch (below(h, 24)) {
		case 0 ... 7:
			return;			/* later, or never */
		case 8:
			ack -= below(h, 100000);
			break;
		case 9:
			ack += below(h, 100000);
			break;
		case 10:
			window = below(h, 3) * 500;
			break;
		case 11:
			flags |= one_in(h, 8) ? TCPHDR_RST : one_in(h, 4) ? TCPHDR_FIN : TCPHDR_PSH;
			break;
		case 12 ... 13:
			segment(h, q, flow, th->dest, flow->mine, ack - 1448, flags, window, 3);
			return;
		}
	}
	segment(h, q, flow, th->dest, flow->mine, ack, flags, window, 0);
}

static void pick_up(struct hostile *h, struct queue *q)
{
	const RING_IDX pushed = READ_ONCE(q->rx->rsp_prod);
	unsigned int budget = RING;
	bool first = true;

	virt_rmb();
	while (q->rx_cons != pushed && budget--) {
		const struct xen_netif_rx_response rsp = q->rx->ring[q->rx_cons++ % RING].rsp;

		if (first && rsp.status > 0 && rsp.offset + rsp.status <= XEN_PAGE_SIZE)
			from_peer(h, q, (u8 *)page_address(h->rx[rsp.id % PAGES].page) + rsp.offset,
				  rsp.status);
		first = !(rsp.flags & XEN_NETRXF_more_data);
		if (rsp.flags & XEN_NETRXF_extra_info) {
			u8 more = XEN_NETIF_EXTRA_FLAG_MORE;

			while (more && q->rx_cons != pushed && budget--) {
				const struct xen_netif_extra_info *extra =
					(void *)&q->rx->ring[q->rx_cons++ % RING];

				more = extra->flags & XEN_NETIF_EXTRA_FLAG_MORE;
			}
		}
	}
	if (q->rx_cons != pushed && !budget)
		q->rx_cons = pushed;
	WRITE_ONCE(q->rx->rsp_event, q->rx_cons + 1);
}

static void post(struct hostile *h, struct queue *q)
{
	if (q->rx_prod - q->rx_cons > RING)
		q->rx_prod = q->rx_cons;
	while (q->rx_prod - q->rx_cons < RING) {
		struct xen_netif_rx_request *req = &q->rx->ring[q->rx_prod % RING].req;
		struct granted *g = &h->rx[q->rx_prod % PAGES];

		give(h, g);
		req->id = q->rx_prod % PAGES;
		req->gref = g->ref;
		if (may(h, RX_REFS) && one_in(h, 16)) {
			req->id = any(h);
			switch (below(h, 4)) {
			case 0:
				req->gref = any(h);
				break;
			case 1:
				req->gref = q->rx_ring.ref;
				break;
			case 2:
				req->gref = 0x7ffffff0;
				break;
			}
		}
		q->rx_prod++;
	}
	virt_wmb();
	WRITE_ONCE(q->rx->req_prod, q->rx_prod);
	notify(q);
}

/* A packet of several requests, with extra infos; wrong as far as it may be. */
static void packet(struct hostile *h, struct queue *q)
{
	unsigned int fragments = may(h, TX_CHAIN) ? 1 + below(h, one_in(h, 3) ? 30 : 17) : 1;
	unsigned int extras = may(h, TX_EXTRA) ? below(h, one_in(h, 4) ? 9 : 3) : 0;
	struct xen_netif_tx_request *req;
	unsigned int i;

	if (tx_full(q, fragments + extras))
		return;
	for (i = 0; i < fragments; i++) {
		u8 *at;

		req = tx_slot(q);
		at = tx_page(h, 600, req);
		if (!i) {
			/* Of the first, the size is that of the whole. */
			memcpy(at, h->mac, ETH_ALEN);
			eth_broadcast_addr(at);
			*(__be16 *)(at + 12) = htons(one_in(h, 2) ? ETH_P_IP : any(h));
			at[14] = one_in(h, 2) ? 0x45 : any(h);
			at[23] = one_in(h, 2) ? IPPROTO_TCP : any(h);
			req->size = 600 * fragments;
			req->flags = any(h) & (XEN_NETTXF_csum_blank | XEN_NETTXF_data_validated);
			if (extras)
				req->flags |= XEN_NETTXF_extra_info;
		}
		if (i + 1 < fragments || (may(h, TX_CHAIN) && one_in(h, 16)))
			req->flags |= XEN_NETTXF_more_data;
		if (may(h, TX_BAD) && one_in(h, 4)) {
			switch (below(h, 5)) {
			case 0:
				req->offset = edge(h);
				break;
			case 1:
				req->size = edge(h);
				break;
			case 2:
				req->flags = any(h);
				break;
			case 3:
				req->gref = one_in(h, 2) ? any(h) : q->tx_ring.ref;
				break;
			case 4:
				req->id = any(h);
				break;
			}
		}
		for (; !i && extras; extras--) {
			struct xen_netif_extra_info *extra =
				(void *)&q->tx->ring[q->tx_prod++ % RING];

			memset(extra, 0, sizeof(*extra));
			extra->type = one_in(h, 8) ? any(h) : 1 + below(h, 5);
			extra->flags = extras > 1 || one_in(h, 8) ? XEN_NETIF_EXTRA_FLAG_MORE : 0;
			extra->u.gso.size = one_in(h, 2) ? 1448 : edge(h);
			extra->u.gso.type = one_in(h, 2) ? XEN_NETIF_GSO_TYPE_TCPV4 : any(h);
		}
	}
	tx_push(q);
}

static void control(struct hostile *h)
{
	struct xen_netif_ctrl_request *req;
	RING_IDX prod;

	if (!h->ctrl)
		return;
	prod = READ_ONCE(h->ctrl->req_prod);
	req = &h->ctrl->ring[prod % __CONST_RING_SIZE(xen_netif_ctrl, XEN_PAGE_SIZE)].req;
	req->id = any(h);
	req->type = one_in(h, 16) ? any(h) : below(h, 9);
	req->data[0] = one_in(h, 2) ? h->tx[below(h, PAGES)].ref : edge(h);
	req->data[1] = edge(h);
	req->data[2] = one_in(h, 2) ? 0 : edge(h);
	if (req->type == XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM && one_in(h, 2))
		req->data[0] = one_in(h, 2) ? XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ : 0;
	virt_wmb();
	WRITE_ONCE(h->ctrl->req_prod, one_in(h, 32) ? any(h) : prod + 1);
	if (h->ctrl_irq)
		notify_remote_via_irq(h->ctrl_irq);
}

/* ---- xenstore */

static void key(struct hostile *h, const char *folder, const char *name, u32 value)
{
	char path[96];

	snprintf(path, sizeof(path), "%s%s", h->dev->nodename, folder);
	xenbus_printf(XBT_NIL, path, name, "%u", value);
}

static void wrong_key(struct hostile *h, const char *folder, const char *name)
{
	static const char * const text[] = { "", "-1", "4294967295", "4294967296", "x", "1x", " 7",
					     "99999999999999999999", "0x10", "65536", "%n%s" };
	char path[96];

	snprintf(path, sizeof(path), "%s%s", h->dev->nodename, folder);
	switch (below(h, 3)) {
	case 0:
		key(h, folder, name, edge(h));
		break;
	case 1:
		xenbus_write(XBT_NIL, path, name, text[below(h, ARRAY_SIZE(text))]);
		break;
	case 2:
		xenbus_rm(XBT_NIL, path, name);
		break;
	}
}

static const char * const flags[] = { "request-rx-copy", "feature-rx-notify", "feature-sg",
				      "feature-gso-tcpv4", "feature-gso-tcpv6",
				      "feature-no-csum-offload", "feature-ipv6-csum-offload",
				      "request-multicast-control" };

static void write_features(struct hostile *h)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		if (may(h, SETUP) && one_in(h, 12))
			wrong_key(h, "", flags[i]);
		else
			/* The first two have to be on for anything to run. */
			key(h, "", flags[i], i < 2 ? !(may(h, SETUP) && one_in(h, 12)) :
			    i < 4 ? !one_in(h, 4) : below(h, 2));
	}
	if (may(h, SETUP) && one_in(h, 6))
		key(h, "", "xdp-headroom", one_in(h, 2) ? 4000 + below(h, 200) : below(h, 0x8000));
	else if (may(h, SETUP) && one_in(h, 12))
		wrong_key(h, "", "xdp-headroom");
	else
		xenbus_rm(XBT_NIL, h->dev->nodename, "xdp-headroom");
}

static void state(struct hostile *h, u32 value)
{
	xenbus_printf(XBT_NIL, h->dev->nodename, "state", "%u", value);
}

/* Waits until the backend is in a state, not for ever. */
static bool backend_is(struct hostile *h, enum xenbus_state wanted, unsigned int most_ms)
{
	while (most_ms-- && !kthread_should_stop()) {
		if (xenbus_read_driver_state(h->dev->otherend) == wanted)
			return true;
		usleep_range(1000, 1200);
	}
	return false;
}

/* ---- one life */

static irqreturn_t no_interrupt(int irq, void *data)
{
	return IRQ_HANDLED;
}

static bool set_up_queue(struct hostile *h, unsigned int id)
{
	struct queue *q = &h->queues[id];
	char folder[16] = "";
	int err;

	if (!get_ring(h, &q->tx_ring) || !get_ring(h, &q->rx_ring))
		return false;
	q->tx = page_address(q->tx_ring.page);
	q->rx = page_address(q->rx_ring.page);
	SHARED_RING_INIT(q->tx);
	SHARED_RING_INIT(q->rx);
	if (xenbus_alloc_evtchn(h->dev, &q->port))
		return false;
	err = bind_evtchn_to_irqhandler(q->port, no_interrupt, 0, "hostile", q);
	if (err < 0) {
		xenbus_free_evtchn(h->dev, q->port);
		return false;
	}
	q->irq = err;
	if (h->num_queues > 1)
		snprintf(folder, sizeof(folder), "/queue-%u", id);
	key(h, folder, "tx-ring-ref", q->tx_ring.ref);
	key(h, folder, "rx-ring-ref", may(h, SETUP) && one_in(h, 24) ? q->tx_ring.ref : q->rx_ring.ref);
	if (one_in(h, 2)) {
		key(h, folder, "event-channel-tx", q->port);
		key(h, folder, "event-channel-rx", q->port);
	} else {
		key(h, folder, "event-channel", q->port);
	}
	if (may(h, SETUP) && one_in(h, 16)) {
		static const char * const names[] = { "tx-ring-ref", "rx-ring-ref", "event-channel",
						      "event-channel-tx", "event-channel-rx" };

		wrong_key(h, folder, names[below(h, ARRAY_SIZE(names))]);
	}
	return true;
}

static void set_up_ctrl(struct hostile *h)
{
	evtchn_port_t port;
	int err;

	xenbus_rm(XBT_NIL, h->dev->nodename, "ctrl-ring-ref");
	xenbus_rm(XBT_NIL, h->dev->nodename, "event-channel-ctrl");
	if (!may(h, CTRL) || !get_ring(h, &h->ctrl_ring) || xenbus_alloc_evtchn(h->dev, &port))
		return;
	err = bind_evtchn_to_irqhandler(port, no_interrupt, 0, "hostile-ctrl", h);
	if (err < 0) {
		xenbus_free_evtchn(h->dev, port);
		return;
	}
	h->ctrl_irq = err;
	h->ctrl = page_address(h->ctrl_ring.page);
	SHARED_RING_INIT(h->ctrl);
	key(h, "", "ctrl-ring-ref", h->ctrl_ring.ref);
	key(h, "", "event-channel-ctrl", port);
	if (may(h, SETUP) && one_in(h, 8))
		wrong_key(h, "", one_in(h, 2) ? "ctrl-ring-ref" : "event-channel-ctrl");
}

static bool set_up(struct hostile *h)
{
	const unsigned int most = min(QUEUES_MOST,
		xenbus_read_unsigned(h->dev->otherend, "multi-queue-max-queues", 1));
	unsigned int i;

	h->num_queues = queues ? min(queues, most) :
		one_in(h, 2) ? 1 : 1 + below(h, one_in(h, 8) ? most : min(most, 4u));
	h->queues = kcalloc(h->num_queues, sizeof(*h->queues), GFP_KERNEL);
	if (!h->queues)
		return false;
	xenbus_rm(XBT_NIL, h->dev->nodename, "event-channel");
	xenbus_rm(XBT_NIL, h->dev->nodename, "event-channel-tx");
	xenbus_rm(XBT_NIL, h->dev->nodename, "event-channel-rx");
	write_features(h);
	set_up_ctrl(h);
	for (i = 0; i < h->num_queues; i++)
		if (!set_up_queue(h, i))
			return false;
	key(h, "", "multi-queue-num-queues", h->num_queues);
	if (may(h, SETUP) && one_in(h, 12))
		wrong_key(h, "", "multi-queue-num-queues");
	return true;
}

static void tear_down(struct hostile *h)
{
	unsigned int i;

	for (i = 0; h->queues && i < h->num_queues; i++) {
		struct queue *q = &h->queues[i];

		if (q->irq)
			unbind_from_irqhandler(q->irq, q);
		put_ring(&q->tx_ring);
		put_ring(&q->rx_ring);
	}
	kfree(h->queues);
	h->queues = NULL;
	h->num_queues = 0;
	if (h->ctrl_irq)
		unbind_from_irqhandler(h->ctrl_irq, h);
	h->ctrl_irq = 0;
	h->ctrl = NULL;
	put_ring(&h->ctrl_ring);
}

/* What this life has in mind, on one queue, now. Returns false if the vif is done with. */
static bool act(struct hostile *h, struct queue *q)
{
	const enum act what = below(h, ACTS);

	if (!may(h, what))
		return true;
	switch (what) {
	case RX_JUMP:
		WRITE_ONCE(q->rx->req_prod, q->rx_prod + (one_in(h, 2) ? any(h) : below(h, 600)));
		notify(q);
		break;
	case RX_BACK:
		WRITE_ONCE(q->rx->req_prod, q->rx_prod - below(h, 600));
		notify(q);
		break;
	case RX_FREEZE:
		q->frozen = !q->frozen;
		break;
	case RX_EVENT:
		WRITE_ONCE(q->rx->rsp_event, one_in(h, 2) ? any(h) : q->rx_cons + below(h, 600) - 300);
		break;
	case BACKEND_FIELDS:
		if (one_in(h, 2)) {
			WRITE_ONCE(q->rx->rsp_prod, any(h));
			WRITE_ONCE(q->rx->req_event, any(h));
		} else {
			WRITE_ONCE(q->tx->rsp_prod, any(h));
			WRITE_ONCE(q->tx->req_event, any(h));
		}
		break;
	case TX_BAD:
	case TX_CHAIN:
	case TX_EXTRA:
		packet(h, q);
		break;
	case TX_JUMP:
		if (!one_in(h, 8))
			break;
		WRITE_ONCE(q->tx->req_prod, q->tx_prod + RING + 1 + any(h) % 0x7fffff00);
		notify(q);
		return false;
	case VANISH:
		take(&h->rx[below(h, PAGES)]);
		take(&h->tx[below(h, PAGES)]);
		if (one_in(h, 16))
			take(one_in(h, 2) ? &q->rx_ring : &q->tx_ring);
		break;
	case KEYS:
		if (one_in(h, 3))
			key(h, "", "request-multicast-control", below(h, 2));
		write_features(h);
		if (one_in(h, 2))
			state(h, XenbusStateReconfiguring);
		break;
	case CTRL:
		control(h);
		break;
	case STORM: {
		unsigned int n = below(h, 60);

		while (n--)
			notify(q);
		break;
	}
	default:
		break;
	}
	return true;
}

/* Goes, in good order or in none. */
static void leave(struct hostile *h)
{
	unsigned int n;
	const char *next;

	for (next = script; *next >= '0' && *next <= '9'; next++) {
		state(h, *next - '0');
		msleep(50);
	}
	if (next != script)
		return;
	if (may(h, STATES)) {
		for (n = below(h, 5); n; n--) {
			state(h, one_in(h, 10) ? 9 + below(h, 200) : 1 + below(h, 8));
			if (one_in(h, 2))
				usleep_range(100, 20000);
		}
	}
	if (may(h, UNKNOWN) && one_in(h, 24)) {
		if (one_in(h, 2))
			state(h, XenbusStateUnknown);
		else
			xenbus_rm(XBT_NIL, h->dev->nodename, "state");
		msleep(20);
	}
	/* What is left of the grants goes before, or after. */
	if (may(h, VANISH) && one_in(h, 3))
		return;
	state(h, XenbusStateClosing);
	backend_is(h, XenbusStateClosing, 50);
	state(h, XenbusStateClosed);
	backend_is(h, XenbusStateClosed, 50);
}

static void live(struct hostile *h)
{
	unsigned int i, well, left;
	bool going = true;

	/* A few kinds at a time, or nothing gets far; now and then all of them. */
	h->now = one_in(h, 10) ? acts : acts & BIT(TCP_LIES);
	for (i = 0; i < 3; i++)
		h->now |= acts & BIT(below(h, ACTS));
	if (!h->now)
		h->now = acts;
	lives++;

	state(h, XenbusStateInitialising);
	if (!backend_is(h, XenbusStateInitWait, 100)) {
		/* Confused: the long way. Dom0 may have to make the vif anew. */
		state(h, XenbusStateClosing);
		backend_is(h, XenbusStateClosing, 50);
		state(h, XenbusStateClosed);
		backend_is(h, XenbusStateClosed, 50);
		state(h, XenbusStateInitialising);
		if (!backend_is(h, XenbusStateInitWait, 1000))
			return;
	}
	if (!set_up(h))
		goto out;
	state(h, XenbusStateInitialised);
	state(h, XenbusStateConnected);
	if (backend_is(h, XenbusStateConnected, 200))
		connected_lives++;
	for (i = 0; i < PAGES; i++) {
		give(h, &h->rx[i]);
		give(h, &h->tx[i]);
	}
	well = below(h, 60);
	for (left = 20 + below(h, 250); going && left && !kthread_should_stop(); left--) {
		for (i = 0; i < h->num_queues; i++) {
			struct queue *q = &h->queues[i];

			steps++;
			if (!well)
				going = act(h, q) && going;
			if (q->frozen)
				continue;
			pick_up(h, q);
			post(h, q);
		}
		if (well)
			well--;
		usleep_range(200, 1000);
		if (one_in(h, 40))
			msleep(20 + below(h, 60));
		/* Long enough for timers of seconds. */
		if (one_in(h, 4000))
			msleep(3000);
	}
	if (!going)
		msleep(linger);
	leave(h);
out:
	tear_down(h);
}

static int hostile_main(void *data)
{
	struct hostile *h = data;

	while (!kthread_should_stop()) {
		if (paused)
			msleep(20);
		else
			live(h);
		cond_resched();
	}
	return 0;
}

/* ---- the device */

static void release(struct hostile *h)
{
	unsigned int i;

	for (i = 0; i < PAGES; i++) {
		put_ring(&h->rx[i]);
		put_ring(&h->tx[i]);
	}
	kfree(h);
}

static int hostile_probe(struct xenbus_device *dev, const struct xenbus_device_id *id)
{
	struct hostile *h;
	unsigned int i;
	int mac[ETH_ALEN];

	if (!strcmp(dev->nodename, "device/vif/0"))
		return -ENODEV;		/* xen-netfront's */
	h = kzalloc(sizeof(*h), GFP_KERNEL);
	if (!h)
		return -ENOMEM;
	h->dev = dev;
	prandom_seed_state(&h->random, seed);
	for (i = 0; i < PAGES; i++) {
		h->rx[i].ref = h->tx[i].ref = -1;
		h->rx[i].page = alloc_page(GFP_KERNEL | __GFP_ZERO);
		h->tx[i].page = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!h->rx[i].page || !h->tx[i].page)
			goto no_memory;
	}
	if (xenbus_scanf(XBT_NIL, dev->nodename, "mac", "%x:%x:%x:%x:%x:%x", &mac[0], &mac[1], &mac[2],
			 &mac[3], &mac[4], &mac[5]) != ETH_ALEN)
		goto no_memory;
	for (i = 0; i < ETH_ALEN; i++)
		h->mac[i] = mac[i];
	/* 10.0.0.N with N the last byte of its Ethernet address, as for all guests. */
	h->address = htonl(0x0a000000 | h->mac[5]);
	dev_set_drvdata(&dev->dev, h);
	h->thread = kthread_run(hostile_main, h, "hostile");
	if (!IS_ERR(h->thread))
		return 0;
no_memory:
	release(h);
	return -ENOMEM;
}

static void hostile_remove(struct xenbus_device *dev)
{
	struct hostile *h = dev_get_drvdata(&dev->dev);

	kthread_stop(h->thread);
	tear_down(h);
	release(h);
}

static void hostile_backend_changed(struct xenbus_device *dev, enum xenbus_state backend)
{
}

static const struct xenbus_device_id hostile_ids[] = { { "vif" }, { "" } };

static struct xenbus_driver hostile_driver = {
	.name = "hostile",
	.ids = hostile_ids,
	.probe = hostile_probe,
	.remove = hostile_remove,
	.otherend_changed = hostile_backend_changed,
};

static int __init hostile_init(void)
{
	return xenbus_register_frontend(&hostile_driver);
}
module_init(hostile_init);

MODULE_DESCRIPTION("A frontend that keeps to no rule, to try xen-netback with");
MODULE_LICENSE("GPL");
