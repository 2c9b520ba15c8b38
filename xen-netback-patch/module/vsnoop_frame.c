// SPDX-License-Identifier: GPL-2.0-only
/* vsnoop in xen-netback: frames: what keeping one costs, making it ours, its checksum. */
#include "vsnoop_private.h"

#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <net/ip6_checksum.h>
#include <xen/grant_table.h>

/* A copy of up to so many bytes is one piece of 2 KiB; of more, its headers are, and
 * the rest is in single pages.
 */
#define COPY_ROOM (NET_SKB_PAD + NET_IP_ALIGN)
#define COPY_SHARED SKB_DATA_ALIGN(sizeof(struct skb_shared_info))
#define COPY_LINEAR (2048 - COPY_SHARED - COPY_ROOM - SMP_CACHE_BYTES)

static unsigned int copy_linear(unsigned int length)
{
	return length <= COPY_LINEAR ? length : HEADERS_FROM_PEER;
}

/* Memory that a copy of @length bytes takes, at most. */
static u32 copy_cost(unsigned int length)
{
	const unsigned int linear = copy_linear(length);

	return SKB_DATA_ALIGN(sizeof(struct sk_buff)) +
	       roundup_pow_of_two(SKB_DATA_ALIGN(COPY_ROOM + linear) + COPY_SHARED) +
	       DIV_ROUND_UP(length - linear, PAGE_SIZE) * PAGE_SIZE;
}

/* Whether somebody else may change or miss its pages: another guest's, those of a
 * file, those of a device's buffers.
 */
static bool lives_elsewhere(struct sk_buff *skb)
{
	struct sk_buff *part = skb;
	int i;

	for (;;) {
		if (skb_zcopy(part) || skb_has_shared_frag(part))
			return true;
		for (i = 0; i < skb_shinfo(part)->nr_frags; i++) {
			struct page *page = skb_frag_page(&skb_shinfo(part)->frags[i]);

			if (!page || PageForeign(page))
				return true;
		}
		part = part == skb ? skb_shinfo(skb)->frag_list : part->next;
		if (!part)
			return false;
	}
}

/* Memory that stays taken while @skb is kept: whole pages, whatever part of them is
 * its. @pinned: the same, if all other parts of large pages go.
 */
static u32 cost_as_it_is(const struct sk_buff *skb, u32 *pinned)
{
	const struct sk_buff *part = skb;
	u32 cost = 0, all = 0;
	int i;

	for (;;) {
		const u32 head = SKB_TRUESIZE(skb_end_offset(part));

		cost += head;
		all += head;
		for (i = 0; i < skb_shinfo(part)->nr_frags; i++) {
			const skb_frag_t *frag = &skb_shinfo(part)->frags[i];

			cost += PAGE_ALIGN(offset_in_page(skb_frag_off(frag)) +
					   skb_frag_size(frag));
			all += page_size(compound_head(skb_frag_page(frag)));
		}
		part = part == skb ? skb_shinfo(skb)->frag_list : part->next;
		if (!part)
			break;
	}
	*pinned = max_t(u32, all, skb->truesize);
	return max_t(u32, cost, skb->truesize);
}

/* What keeping @skb will cost; @copy: it has to be copied for that, because its pages
 * are not ours or it holds far more memory than it has bytes.
 */
u32 vs_cost(struct sk_buff *skb, bool *copy)
{
	u32 cost, pinned;

	*copy = true;
	if (lives_elsewhere(skb))
		return copy_cost(skb->len);
	cost = cost_as_it_is(skb, &pinned);
	*copy = pinned > 4 * skb->len && copy_cost(skb->len) < pinned;
	return *copy ? copy_cost(skb->len) : cost;
}

static struct sk_buff *copy_of(struct sk_buff *skb)
{
	const unsigned int linear = copy_linear(skb->len), rest = skb->len - linear;
	struct sk_buff *copy;
	unsigned int at = linear;
	int i, err;

	copy = alloc_skb_with_frags(COPY_ROOM + linear, rest, 0, &err,
				    GFP_ATOMIC | __GFP_NOWARN);
	if (!copy)
		return NULL;
	skb_reserve(copy, COPY_ROOM);
	skb_put(copy, linear);
	copy->data_len = rest;
	copy->len += rest;
	if (skb_copy_bits(skb, 0, copy->data, linear))
		goto err;
	for (i = 0; i < skb_shinfo(copy)->nr_frags; i++) {
		const skb_frag_t *frag = &skb_shinfo(copy)->frags[i];

		if (skb_copy_bits(skb, at, skb_frag_address(frag), skb_frag_size(frag)))
			goto err;
		at += skb_frag_size(frag);
	}
	skb_copy_header(copy, skb);
	skb_headers_offset_update(copy, skb_headroom(copy) - skb_headroom(skb));
	return copy;

err:
	kfree_skb(copy);
	return NULL;
}

/*
 * Makes of @skb one that may be kept for long and delivered again: nothing of the
 * sender's hangs on it, and its pages are this domain's. NULL: no memory. If it is
 * another one @skb is still the caller's.
 */
struct sk_buff *vs_make_ours(struct sk_buff *skb, bool copy)
{
	/* From the reserves, which are for getting memory back, not for keeping. */
	if (skb_pfmemalloc(skb))
		return NULL;
	if (copy) {
		skb = copy_of(skb);
		if (!skb || skb_pfmemalloc(skb)) {
			kfree_skb(skb);
			return NULL;
		}
	}
	skb_orphan(skb);
	skb_scrub_packet(skb, false);
	return skb;
}

/* The TCP checksum of @skb, network header at @offset, of type @type; wherever its
 * bytes are. UNKNOWN: it is not plain TCP over IP, or not all there.
 */
static u8 verify(const struct sk_buff *skb, int offset, __be16 type)
{
	union {
		struct iphdr v4;
		struct ipv6hdr v6;
	} buffer;
	const struct ipv6hdr *v6;
	const struct iphdr *v4;
	int length;
	__sum16 sum;

	if (type == htons(ETH_P_IP)) {
		v4 = skb_header_pointer(skb, offset, sizeof(*v4), &buffer.v4);
		if (!v4 || v4->version != 4 || v4->ihl < 5 || v4->protocol != IPPROTO_TCP ||
		    ip_is_fragment(v4))
			return VSNOOP_CHECKSUM_UNKNOWN;
		offset += v4->ihl * 4;
		length = ntohs(v4->tot_len) - v4->ihl * 4;
		if (length < 0 || offset + length > skb->len)
			return VSNOOP_CHECKSUM_UNKNOWN;
		sum = csum_tcpudp_magic(v4->saddr, v4->daddr, length, IPPROTO_TCP,
					skb_checksum(skb, offset, length, 0));
	} else if (type == htons(ETH_P_IPV6)) {
		v6 = skb_header_pointer(skb, offset, sizeof(*v6), &buffer.v6);
		if (!v6 || v6->version != 6 || v6->nexthdr != IPPROTO_TCP)
			return VSNOOP_CHECKSUM_UNKNOWN;
		offset += sizeof(*v6);
		length = ntohs(v6->payload_len);
		if (offset + length > skb->len)
			return VSNOOP_CHECKSUM_UNKNOWN;
		sum = csum_ipv6_magic(&v6->saddr, &v6->daddr, length, IPPROTO_TCP,
				      skb_checksum(skb, offset, length, 0));
	} else {
		return VSNOOP_CHECKSUM_UNKNOWN;
	}
	return sum ? VSNOOP_CHECKSUM_BAD : VSNOOP_CHECKSUM_VERIFIED;
}

/* What is known of the checksum of @skb, whose network header (or VLAN tags before it)
 * is at @offset. The engine can only look at bytes in one piece; what is not, is
 * verified here. What the device summed up is no help: a bridge strikes it out.
 */
u8 vs_checksum(const struct sk_buff *skb, int offset, __be16 type)
{
	const struct vlan_hdr *tag;
	struct vlan_hdr buffer;
	int tags;

	if (skb->ip_summed == CHECKSUM_PARTIAL)
		return VSNOOP_CHECKSUM_PARTIAL;
	if (skb->ip_summed == CHECKSUM_UNNECESSARY)
		return VSNOOP_CHECKSUM_VERIFIED;
	if (!skb_is_nonlinear(skb))
		return VSNOOP_CHECKSUM_UNKNOWN;
	for (tags = 0; tags < 2 && eth_type_vlan(type); tags++) {
		tag = skb_header_pointer(skb, offset, sizeof(*tag), &buffer);
		if (!tag)
			return VSNOOP_CHECKSUM_UNKNOWN;
		type = tag->h_vlan_encapsulated_proto;
		offset += sizeof(*tag);
	}
	return verify(skb, offset, type);
}

/* Makes headers readable. If memory lacks, the engine sees a short frame and promises
 * nothing.
 */
void vs_make_readable(struct sk_buff *skb, unsigned int headers)
{
	if (skb_is_nonlinear(skb) && skb_headlen(skb) < headers)
		pskb_may_pull(skb, min(skb->len, headers));
}
