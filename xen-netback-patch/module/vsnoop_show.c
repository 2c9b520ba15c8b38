// SPDX-License-Identifier: GPL-2.0-only
/* vsnoop in xen-netback: what can be seen. */
#include "vsnoop_private.h"

#include <linux/ethtool.h>
#include <linux/seq_file.h>
#include <net/ipv6.h>

#define CREATE_TRACE_POINTS
#include "vsnoop_trace.h"

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
	return ARRAY_SIZE(counters) + 4 + VSNOOP_REASONS;
}

void xenvif_vsnoop_stats_strings(u8 *data)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(counters); i++)
		ethtool_sprintf(&data, "%s", counters[i].name);
	ethtool_sprintf(&data, "vsnoop_flows_outstanding");
	ethtool_sprintf(&data, "vsnoop_flows");
	ethtool_sprintf(&data, "vsnoop_budget");
	ethtool_sprintf(&data, "vsnoop_budget_short");
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
		*data++ = (u64)READ_ONCE(vs->limit_kib) << 10;
		*data++ = (u64)vs_budget_short(vs) << 10;
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

void xenvif_vsnoop_debugfs(struct xenvif *vif, struct dentry *dir)
{
	vif->vsnoop->log_shut = false;
	debugfs_create_file("vsnoop_flows", 0400, dir, vif->vsnoop, &vsnoop_flows_fops);
	debugfs_create_file("vsnoop_log", 0400, dir, vif->vsnoop, &vs_log_fops);
}
#endif /* CONFIG_DEBUG_FS */
