/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vsnoop

#if !defined(__XEN_NETBACK__VSNOOP_TRACE_H__) || defined(TRACE_HEADER_MULTI_READ)
#define __XEN_NETBACK__VSNOOP_TRACE_H__

#include <linux/tracepoint.h>
#include "common.h"

/* An ACK that promises something new is about to be sent to the peer. */
TRACE_EVENT(vsnoop_promise,
	TP_PROTO(const struct xenvif *vif, const struct vsnoop_emission *emission),
	TP_ARGS(vif, emission),
	TP_STRUCT__entry(
		__array(char, dev, IFNAMSIZ)
		__field(u32, flow)
		__field(u32, ack)
		__field(u32, edge)
	),
	TP_fast_assign(
		strscpy(__entry->dev, vif->dev->name, IFNAMSIZ);
		__entry->flow = emission->flow.slot;
		__entry->ack = emission->ack;
		__entry->edge = emission->edge;
	),
	TP_printk("%s flow=%u ack=%u edge=%u", __entry->dev, __entry->flow, __entry->ack,
		  __entry->edge)
);

/* A frame leaves custody: the guest has confirmed it, or its flow has ended. */
TRACE_EVENT(vsnoop_release,
	TP_PROTO(const struct xenvif *vif, u32 bytes),
	TP_ARGS(vif, bytes),
	TP_STRUCT__entry(
		__array(char, dev, IFNAMSIZ)
		__field(u32, bytes)
	),
	TP_fast_assign(
		strscpy(__entry->dev, vif->dev->name, IFNAMSIZ);
		__entry->bytes = bytes;
	),
	TP_printk("%s bytes=%u", __entry->dev, __entry->bytes)
);

/* A frame in custody is delivered to the guest once more. */
TRACE_EVENT(vsnoop_redeliver,
	TP_PROTO(const struct xenvif *vif, const struct vsnoop_feed *feed),
	TP_ARGS(vif, feed),
	TP_STRUCT__entry(
		__array(char, dev, IFNAMSIZ)
		__field(u32, seq)
		__field(u32, length)
	),
	TP_fast_assign(
		strscpy(__entry->dev, vif->dev->name, IFNAMSIZ);
		__entry->seq = feed->held->seq + feed->skip;
		__entry->length = feed->keep;
	),
	TP_printk("%s seq=%u length=%u", __entry->dev, __entry->seq, __entry->length)
);

/* Data for the guest that is not promised; reasons: snoop-core/reasons.def. */
TRACE_EVENT(vsnoop_refuse,
	TP_PROTO(const struct xenvif *vif, const struct vsnoop_verdict *verdict),
	TP_ARGS(vif, verdict),
	TP_STRUCT__entry(
		__array(char, dev, IFNAMSIZ)
		__array(char, reason, 24)
		__field(u32, flow)
		__field(u32, seq)
		__field(u32, length)
	),
	TP_fast_assign(
		strscpy(__entry->dev, vif->dev->name, IFNAMSIZ);
		strscpy(__entry->reason, vsnoop_reason_name(verdict->reason), 24);
		__entry->flow = verdict->flow.slot;
		__entry->seq = verdict->seq;
		__entry->length = verdict->length;
	),
	TP_printk("%s flow=%u seq=%u length=%u reason=%s", __entry->dev, __entry->flow,
		  __entry->seq, __entry->length, __entry->reason)
);

#endif /* __XEN_NETBACK__VSNOOP_TRACE_H__ */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE vsnoop_trace
#include <trace/define_trace.h>
