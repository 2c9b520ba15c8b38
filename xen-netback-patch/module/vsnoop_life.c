// SPDX-License-Identifier: GPL-2.0-only
/* vsnoop in xen-netback: an engine's life, as xenstore and the frontend have it. */
#include "vsnoop_private.h"
#include "vsnoop_words.h"

#include <linux/delay.h>
#include <linux/moduleparam.h>
#include <linux/random.h>
#include <linux/rtnetlink.h>

#define DRAIN_INTERVAL max(HZ / 50, 1)
/* A frontend that went to start anew has to be back by then, or what is promised
 * is not kept: its peers must not wait for ever.
 */
#define BACK_WITHIN (30 * HZ)
/* Until memory is asked for again that there was not. */
#define TRY_AGAIN (10 * HZ)
/* What an operator may write to quiesce. */
#define QUIESCE_DRAIN 1
#define QUIESCE_RESET 2		/* reset those connections that still have a promise */

DEFINE_STATIC_KEY_FALSE(xenvif_vsnoop_key);

static bool vsnoop_switch = true;

static int set_switch(const char *text, const struct kernel_param *param)
{
	struct xenvif_vsnoop *vs;
	int err = param_set_bool(text, param);

	if (err)
		return err;
	mutex_lock(&vs_all_lock);
	list_for_each_entry(vs, &vs_all, list)
		mod_delayed_work(system_wq, &vs->work, 0);
	mutex_unlock(&vs_all_lock);
	return 0;
}

static const struct kernel_param_ops switch_ops = {
	.flags = KERNEL_PARAM_OPS_FL_NOARG,
	.set = set_switch,
	.get = param_get_bool,
};
module_param_cb(vsnoop, &switch_ops, &vsnoop_switch, 0644);
MODULE_PARM_DESC(vsnoop, "0: no early ACKs for any guest, what is promised drains");

/* Takes the engine away. Returns whether it is gone: not while something of it is on an
 * rx_queue.
 */
static bool destroy(struct xenvif_vsnoop *vs)
{
	struct vsnoop_held *released;
	struct vs_queue *queues;
	struct sk_buff_head gone;
	struct vsnoop_feed feed;
	struct sk_buff *skb;
	unsigned int i;
	void *memory;
	u16 *slots;
	u64 now;

	if (!vs->engine)
		return true;
	__skb_queue_head_init(&gone);
	spin_lock_bh(&vs->lock);
	if (vs->in_flight) {
		spin_unlock_bh(&vs->lock);
		return false;
	}
	now = vs_now();
	released = vsnoop_guest_stop(vs->engine, 0, now);
	/* Frames that came back from a ring wait to be fetched. */
	vs_resume_all(vs);
	while (vsnoop_next(vs->engine, 0, &feed, now)) {
		vsnoop_fed(vs->engine, 0, &feed, now);
		feed.held->next = released;
		released = feed.held;
	}
	for (i = 0; i < vs->vif->dev->num_tx_queues; i++) {
		skb_queue_splice_init(&vs->queues[i].out, &gone);
		while ((skb = __skb_dequeue(&vs->queues[i].in_ring))) {
			if (vs_cb(skb)->kind == XENVIF_VSNOOP_COPY)
				__skb_queue_tail(&gone, vs_cb(skb)->whole);
			__skb_queue_tail(&gone, skb);
		}
	}
	memory = vs->engine_memory;
	queues = vs->queues;
	slots = vs->tx_queue_of;
	WRITE_ONCE(vs->engine, NULL);
	vs->now.policy = VSNOOP_POLICY_OFF;	/* what a setting that is none leaves in force */
	vs->queues = NULL;
	spin_unlock_bh(&vs->lock);
	timer_delete_sync(&vs->timer);

	vs_free(vs->vif, released);
	__skb_queue_purge(&gone);
	kvfree(memory);
	kvfree(queues);
	kvfree(slots);
	vs_budget_leave(vs);
	static_branch_dec(&xenvif_vsnoop_key);
	return true;
}

static const char waits_for_memory[] = VSNOOP_SAYS_WAITS;
static const char no_memory[] = VSNOOP_SAYS_NO_MEMORY;

/* ..., with how many share how much of it. */
static const char *waits_text(char *to, size_t size, unsigned int sharers, u32 total_kib)
{
	snprintf(to, size, "%s: %u interfaces share %u KiB", waits_for_memory, sharers, total_kib);
	return to;
}

/* What all flows of a vif may take; pushed frames are in the ring, and take nothing. */
static u32 budget_of(const struct vs_settings *set)
{
	if (set->policy == VSNOOP_POLICY_RING)
		return VIF_KIB_LEAST;
	return min(set->vif_kib, LIMIT_KIB_MOST);
}

/* Has the engine work as the settings and the limit say that are in force now: whoever
 * changes one of them calls this afterwards, so that it does not matter who comes last.
 * Under the vsnoop lock.
 */
static void apply(struct xenvif_vsnoop *vs)
{
	struct vsnoop_guest_config guest;

	vs_fill_guest_config(&guest, &vs->now, READ_ONCE(vs->limit_kib));
	vsnoop_guest_open(vs->engine, 0, &guest, vs_now());
}

/* Its limit is another one. */
void vs_set_budget(struct xenvif_vsnoop *vs)
{
	spin_lock_bh(&vs->lock);
	if (vs->engine)
		apply(vs);
	spin_unlock_bh(&vs->lock);
}

/* As large as it need be, or as a 64th of the total bears. Returns the bytes it takes. */
static size_t size_engine(struct vsnoop_config *config)
{
	size_t bytes;

	for (config->flows = FLOWS_MOST;; config->flows /= 2) {
		config->custodies = config->flows / 4;
		bytes = vsnoop_memory_needed(config);
		if (config->flows == FLOWS_LEAST || bytes >> 10 <= vs_budget_total() / 64)
			return bytes;
	}
}

/* Returns NULL, or why there is no engine. @quiesced: it promises nothing yet. */
static const char *create(struct xenvif_vsnoop *vs, const struct vs_settings *set, bool quiesced)
{
	struct vsnoop_config config;
	struct vs_queue *queues;
	struct vsnoop_engine *engine;
	unsigned int i, num_queues = vs->vif->dev->num_tx_queues;
	void *memory;
	size_t bytes, fixed;
	u16 *slots;

	vsnoop_defaults(&config);
	config.guests = 1;
	config.idle_s = IDLE_S;
	get_random_bytes(config.seed, sizeof(config.seed));
	bytes = size_engine(&config);
	fixed = bytes + num_queues * sizeof(*queues) + config.flows * sizeof(*slots) +
		COPIES_CHARGED;
	if (!vs_budget_join(vs, budget_of(set), DIV_ROUND_UP(fixed, 1024)))
		return waits_for_memory;
	memory = kvzalloc(bytes, GFP_KERNEL);
	queues = kvcalloc(num_queues, sizeof(*queues), GFP_KERNEL);
	slots = kvcalloc(config.flows, sizeof(*slots), GFP_KERNEL);
	if (!memory || !queues || !slots) {
		kvfree(memory);
		kvfree(queues);
		kvfree(slots);
		vs_budget_leave(vs);
		return no_memory;
	}
	for (i = 0; i < num_queues; i++) {
		__skb_queue_head_init(&queues[i].in_ring);
		__skb_queue_head_init(&queues[i].out);
	}

	static_branch_inc(&xenvif_vsnoop_key);
	spin_lock_bh(&vs->lock);
	vs->recording = vs->log;
	if (vs->recording) {
		config.log = vs_log_record;
		config.log_context = vs;
	}
	engine = vsnoop_create(memory, bytes, &config);
	vs->engine_memory = memory;
	vs->queues = queues;
	vs->tx_queue_of = slots;
	vs->flows = config.flows;
	for (i = 0; vs->connected && i < vs->vif->num_queues; i++)
		vs_reset_ring(vs, &vs->vif->queues[i]);
	vs->leaving = false;
	vs->in_flight = 0;
	vs->aside = 0;
	vs->copies = 0;
	vs->now = *set;
	WRITE_ONCE(vs->engine, engine);
	apply(vs);
	if (quiesced)
		vsnoop_guest_quiesce(engine, 0, 1, vs_now());
	spin_unlock_bh(&vs->lock);
	vs->quiesced = quiesced;
	return NULL;
}

/* Writes a key of the backend's; not if the toolstack has removed the backend: a write
 * would make the folder anew, and nobody would remove that.
 */
static void write_key(struct xenvif_vsnoop *vs, const char *key, const char *value)
{
	struct xenbus_device *dev = xenvif_to_xenbus_device(vs->vif);
	struct xenbus_transaction xbt;
	int err;

	do {
		bool gone;

		if (xenbus_transaction_start(&xbt))
			return;
		gone = !xenbus_exists(xbt, dev->nodename, "state");
		if (!gone)
			xenbus_write(xbt, dev->nodename, key, value);
		err = xenbus_transaction_end(xbt, gone);
	} while (err == -EAGAIN);
}

static void say(struct xenvif_vsnoop *vs, const char *state)
{
	if (!strcmp(state, vs->state))
		return;
	strscpy(vs->state, state, sizeof(vs->state));
	write_key(vs, "vsnoop-state", state);
}

/* Says which setting the state that was said last is the answer to: one that changes no
 * word of it is answered as well. @text becomes ours.
 */
static void say_taken(struct xenvif_vsnoop *vs, char *text)
{
	if (text && vs->taken && !strcmp(text, vs->taken)) {
		kfree(text);
		return;
	}
	kfree(vs->taken);
	vs->taken = text;
	if (text)
		write_key(vs, "vsnoop-taken", text);
}

/* Why this frontend cannot be promised for; NULL: it can. */
static const char *unfit(struct xenvif *vif)
{
	struct xenbus_device *dev = xenvif_to_xenbus_device(vif);

	if (!xenbus_read_unsigned(dev->otherend, "feature-rx-notify", 0))
		return VSNOOP_SAYS_NO_NOTIFY;
	if (READ_ONCE(vif->xdp_headroom))
		return VSNOOP_SAYS_XDP;
	if (vif->num_queues > vif->dev->num_tx_queues)
		return VSNOOP_SAYS_QUEUES;
	return NULL;
}

/*
 * Has the stack receive resets. A bridge takes nothing from a port without carrier, so
 * if it is off (the frontend is away, or has stalled) it is on for as long as that takes.
 */
static void send_resets(struct xenvif *vif, struct sk_buff_head *resets)
{
	struct net_device *dev = vif->dev;
	bool dark;

	if (skb_queue_empty(resets))
		return;
	rtnl_lock();
	dark = netif_running(dev) && !netif_carrier_ok(dev);
	if (dark) {
		netif_carrier_on(dev);
		/* Linkwatch would do these two, in a while: the bridge is told now. */
		WRITE_ONCE(dev->operstate, IF_OPER_UP);
		netdev_state_change(dev);
	}
	local_bh_disable();
	vs_receive(resets);
	local_bh_enable();
	/* A ring that moves again meanwhile has switched it on itself, and keeps it. */
	spin_lock(&vif->lock);
	if (dark && (!test_bit(VIF_STATUS_CONNECTED, &vif->status) || vif->stalled_queues))
		netif_carrier_off(dev);
	spin_unlock(&vif->lock);
	rtnl_unlock();
}

/* The frontend is away since now, unless it was before. Under the vsnoop lock. */
static void went_away(struct xenvif_vsnoop *vs)
{
	if (vs->connected)
		vs->gone_at = jiffies;
	vs->connected = false;
}

/* Builds what is owed, as far as there is memory, and takes it along. Under the vsnoop lock.
 * Returns whether that is not all.
 */
static bool take_resets(struct xenvif_vsnoop *vs, struct sk_buff_head *spare,
			struct sk_buff_head *out)
{
	unsigned int i;

	if (!vs->engine)
		return false;
	vs_emit(vs, UINT_MAX, spare, vs_now());
	for (i = 0; i < vs->vif->dev->num_tx_queues; i++)
		skb_queue_splice_tail_init(&vs->queues[i].out, out);
	return vsnoop_owes(vs->engine);
}

/*
 * Fail-stop: every connection with a promise outstanding is reset on both sides. With
 * @away nothing is promised from now on until a frontend connects; its queues may be
 * gone already. Process context, without rtnl.
 */
static void fail_stop(struct xenvif_vsnoop *vs, bool away)
{
	struct vsnoop_held *released = NULL;
	struct sk_buff_head out, spare;
	struct sk_buff *skb;
	bool more;
	u64 now;

	__skb_queue_head_init(&out);
	__skb_queue_head_init(&spare);
	spin_lock_bh(&vs->lock);
	if (vs->engine) {
		now = vs_now();
		/* What the guest acknowledged last may still be in its ring; what
		 * it has picked up is no more ours to deliver.
		 */
		released = vs_reap_all(vs, now);
		released = vs_chain(released, vsnoop_guest_stop(vs->engine, 0, now));
	}
	more = take_resets(vs, NULL, &out);
	if (away)
		went_away(vs);
	spin_unlock_bh(&vs->lock);
	vs_free(vs->vif, released);
	send_resets(vs->vif, &out);

	/* Memory was short. Whoever waits for a reset has nobody else to tell it. */
	while (more) {
		skb = vs_alloc_emission(GFP_KERNEL);
		if (skb)
			__skb_queue_tail(&spare, skb);
		else
			msleep(20);
		spin_lock_bh(&vs->lock);
		more = take_resets(vs, &spare, &out);
		spin_unlock_bh(&vs->lock);
		send_resets(vs->vif, &out);
	}
	__skb_queue_purge(&spare);
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
	static const char * const names[] = {
		[VSNOOP_POLICY_OFF] = VSNOOP_SAYS_OFF,
		[VSNOOP_POLICY_RING] = VSNOOP_SAYS_RING,
		[VSNOOP_POLICY_HOLD] = VSNOOP_SAYS_HOLD,
	};
	const char *wrong = NULL, *error = NULL;
	const struct vsnoop_guest_stats *stats;
	bool leave, changed, drained, connected, lost;
	unsigned int quiesce;
	u32 total;
	struct vs_settings want;
	char *text, *taken, message[80];

	text = xenbus_read(XBT_NIL, dev->nodename, "vsnoop", NULL);
	if (IS_ERR(text)) {
		want = (struct vs_settings){ .policy = VSNOOP_POLICY_OFF };
		taken = kstrdup("", GFP_KERNEL);
	} else {
		taken = kstrdup(text, GFP_KERNEL);
		wrong = vs_parse_settings(text, &want);
		if (wrong) {
			snprintf(message, sizeof(message), VSNOOP_SAYS_SETTING "%s", wrong);
			want = vs->now;
		}
		kfree(text);
	}
	quiesce = xenbus_read_unsigned(dev->nodename, "vsnoop/quiesce", 0);
	spin_lock_bh(&vs->lock);
	connected = vs->connected;
	lost = !connected && time_after_eq(jiffies, vs->gone_at + BACK_WITHIN);
	spin_unlock_bh(&vs->lock);

	if (!READ_ONCE(vsnoop_switch))
		want.policy = VSNOOP_POLICY_OFF;
	if (want.policy != VSNOOP_POLICY_OFF &&
	    (connected || vs->vif->num_queues > vs->vif->dev->num_tx_queues)) {
		error = unfit(vs->vif);
		if (error)
			want.policy = VSNOOP_POLICY_OFF;
	}

	/* A policy is changed by way of off: promises of two kinds do not mix. */
	leave = vs->engine && want.policy != vs->now.policy;
	changed = vs->engine && !leave && !vs_same_settings(&want, &vs->now);
	if (changed)
		vs_budget_join(vs, budget_of(&want), vs->fixed_kib);
	if (!vs->engine && (want.policy == VSNOOP_POLICY_OFF || !connected))
		vs_budget_leave(vs);	/* it may have waited for one */
	if (lost)
		fail_stop(vs, false);	/* it is away; or has just come back */
	if (vs->engine) {
		spin_lock_bh(&vs->lock);
		if ((leave || quiesce) != vs->quiesced)
			vsnoop_guest_quiesce(vs->engine, 0, leave || quiesce, vs_now());
		spin_unlock_bh(&vs->lock);
		if (quiesce >= QUIESCE_RESET)
			fail_stop(vs, false);
		spin_lock_bh(&vs->lock);
		vs->quiesced = leave || quiesce;
		stats = vsnoop_stats(vs->engine, 0);
		drained = !stats->outstanding;
		vs->leaving = leave && drained;
		if (changed) {
			vs->now = want;
			apply(vs);
		}
		spin_unlock_bh(&vs->lock);
		if (vs->leaving)
			fail_stop(vs, false);	/* a reset that is owed goes first */
		if (vs->quiesced && !(drained && (!leave || destroy(vs)))) {
			say(vs, VSNOOP_SAYS_QUIESCING);
			kfree(taken);
			schedule_delayed_work(&vs->work, DRAIN_INTERVAL);
			return;
		}
	}
	if (!vs->engine && want.policy != VSNOOP_POLICY_OFF && connected)
		error = create(vs, &want, quiesce);

	if (wrong)
		say(vs, message);
	else if (error == waits_for_memory)
		say(vs, waits_text(message, sizeof(message), vs_budget_sharers(&total), total));
	else if (error)
		say(vs, error);
	else if (want.policy == VSNOOP_POLICY_OFF)
		say(vs, VSNOOP_SAYS_OFF);
	else if (!connected)
		say(vs, VSNOOP_SAYS_WAITING);
	else if (quiesce)
		say(vs, VSNOOP_SAYS_QUIESCED);
	else
		say(vs, names[want.policy]);
	say_taken(vs, taken);
	if (error == no_memory)
		schedule_delayed_work(&vs->work, TRY_AGAIN);
	else if (vs->engine && !connected && !lost)
		schedule_delayed_work(&vs->work, BACK_WITHIN);
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
	timer_setup(&vs->timer, vs_run_timer, 0);
	INIT_DELAYED_WORK(&vs->work, configure);
	vs->watch.node = kasprintf(GFP_KERNEL, "%s/vsnoop", dev->nodename);
	vs->watch.callback = key_changed;
	if (!vs->watch.node) {
		kfree(vs);
		return -ENOMEM;
	}
	vif->vsnoop = vs;
	mutex_lock(&vs_all_lock);
	list_add_tail(&vs->list, &vs_all);
	mutex_unlock(&vs_all_lock);
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
	mutex_lock(&vs_all_lock);
	list_del(&vs->list);
	mutex_unlock(&vs_all_lock);
	cancel_delayed_work_sync(&vs->work);
	WARN_ON_ONCE(vs->in_flight);
	vs->in_flight = 0;	/* the queues are gone */
	destroy(vs);
	vs_budget_leave(vs);
	timer_delete_sync(&vs->timer);
	vs_budget_exit();
	vif->vsnoop = NULL;
	kfree(vs->taken);
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
 * here, say) goes on; unless the frontend can no longer take such frames, or is not
 * promised for: it has more queues than the interface, or was disabled.
 */
void xenvif_vsnoop_connect(struct xenvif *vif)
{
	struct xenvif_vsnoop *vs = vif->vsnoop;
	const bool fits = vif->num_queues <= vif->dev->num_tx_queues && !vif->disabled;
	const bool less = !fits || vs->features & ~features_of(vif);
	unsigned int i;

	vs->features = features_of(vif);
	spin_lock_bh(&vs->lock);
	vs->connected = fits;
	vs->less = less;	/* feed it nothing of before */
	if (vs->engine && vs->connected) {
		for (i = 0; i < vif->num_queues; i++)
			vs_reset_ring(vs, &vif->queues[i]);
		vs_resume_all(vs);
		napi_schedule(&vif->queues[0].napi);
	}
	spin_unlock_bh(&vs->lock);
	if (less) {
		fail_stop(vs, false);
		spin_lock_bh(&vs->lock);
		vs->less = false;
		spin_unlock_bh(&vs->lock);
	}
	mod_delayed_work(system_wq, &vs->work, 0);
}

/**
 * xenvif_vsnoop_stop - the frontend goes, and what is promised cannot be kept
 * @vif: it, or NULL
 *
 * Context: process, without rtnl; before the vif leaves its bridge.
 */
void xenvif_vsnoop_stop(struct xenvif *vif)
{
	if (vif && vif->vsnoop)
		fail_stop(vif->vsnoop, true);
}

/**
 * xenvif_vsnoop_disconnect - the frontend goes
 * @vif: it
 *
 * Custody waits for one that starts anew; of one that is closing, xenvif_vsnoop_stop()
 * was called before.
 */
void xenvif_vsnoop_disconnect(struct xenvif *vif)
{
	struct xenvif_vsnoop *vs = vif->vsnoop;

	vs_log_end(vs);
	spin_lock_bh(&vs->lock);
	went_away(vs);
	spin_unlock_bh(&vs->lock);
}

/**
 * xenvif_vsnoop_disconnected - no thread works on the queues any more
 * @vif: it; its queues are about to be freed
 *
 * What was copied but not picked up is thrown away by the frontend. What was built for
 * peers still goes to them: a reset among it is said once.
 */
void xenvif_vsnoop_disconnected(struct xenvif *vif)
{
	struct xenvif_vsnoop *vs = vif->vsnoop;
	struct sk_buff_head gone, out;
	struct sk_buff *skb;
	unsigned int i;
	u64 now;

	__skb_queue_head_init(&gone);
	__skb_queue_head_init(&out);
	spin_lock_bh(&vs->lock);
	now = vs_now();
	for (i = 0; vs->engine && i < vif->dev->num_tx_queues; i++) {
		struct vs_queue *vq = &vs->queues[i];
		u32 slot, memory = 0;

		skb_queue_splice_tail_init(&vq->out, &out);
		while ((skb = __skb_dequeue_tail(&vq->in_ring))) {
			struct sk_buff *whole = skb;

			if (vs_cb(skb)->kind == XENVIF_VSNOOP_COPY) {
				whole = vs_cb(skb)->whole;
				vs->copies -= skb->truesize;
				__skb_queue_tail(&gone, skb);
			}
			vsnoop_returned(vs->engine, &vs_cb(whole)->held, now);
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
	send_resets(vif, &out);
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
