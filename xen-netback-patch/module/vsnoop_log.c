// SPDX-License-Identifier: GPL-2.0-only
/*
 * vsnoop in xen-netback: the decision log, a file in debugfs.
 *
 * A log belongs to the file that was opened; the vif only points to it while both
 * are there. When the vif's files go (its frontend does, or the guest), the log is
 * taken off the vif and its reader is woken: it reads what is left, then the end.
 * debugfs_remove() waits for readers, and the thread that calls it serves all of
 * dom0, so this has to come first: vs_log_end().
 */
#include "vsnoop_private.h"

#include <linux/poll.h>
#include <linux/vmalloc.h>

#define LOG_BYTES (4u << 20)

/* One writer, under the vif's lock, moves head; one reader at a time moves tail. */
struct vs_log {
	struct xenvif_vsnoop *vs;	/* under attached; NULL: the vif's files are gone */
	u8 *bytes;
	u32 head, tail;			/* free running */
	bool lost;			/* it was full: nothing after that is kept */
	bool ended;
	wait_queue_head_t wait;
	struct mutex reading;		/* one reader at a time */
};

/* Which log is whose: vs->log, vs->log_shut, log->vs. Taken before the vif's lock. */
static DEFINE_MUTEX(attached);

static void write_log(struct vs_log *log, const u8 *bytes, u32 length)
{
	const u32 head = log->head, at = head % LOG_BYTES;
	const u32 first = min(length, LOG_BYTES - at);

	/* Pairs with the release in log_read(): what is behind tail has been read. */
	if (log->lost || LOG_BYTES - (head - smp_load_acquire(&log->tail)) < length) {
		WRITE_ONCE(log->lost, true);
	} else {
		memcpy(log->bytes + at, bytes, first);
		memcpy(log->bytes, bytes + first, length - first);
		/* Pairs with the acquires below: the bytes first. */
		smp_store_release(&log->head, head + length);
	}
	wake_up_interruptible(&log->wait);
}

/* The engine's sink. Only the whole life of an engine can be replayed. */
void vs_log_record(void *context, const u8 *bytes, u32 length)
{
	struct xenvif_vsnoop *vs = context;

	if (vs->recording)
		write_log(vs->log, bytes, length);
}

/* With `attached` held. */
static void detach(struct xenvif_vsnoop *vs)
{
	struct vs_log *log = vs->log;

	spin_lock_bh(&vs->lock);
	vs->log = NULL;
	vs->recording = false;
	spin_unlock_bh(&vs->lock);
	log->vs = NULL;
}

/* The vif's files are about to go: ends the log that somebody reads. */
void vs_log_end(struct xenvif_vsnoop *vs)
{
	struct vs_log *log;

	mutex_lock(&attached);
	vs->log_shut = true;
	log = vs->log;
	if (log) {
		detach(vs);
		WRITE_ONCE(log->ended, true);
		wake_up_interruptible(&log->wait);
	}
	mutex_unlock(&attached);
}

#ifdef CONFIG_DEBUG_FS
static int log_open(struct inode *inode, struct file *file)
{
	struct xenvif_vsnoop *vs = inode->i_private;
	struct vs_log *log = kzalloc(sizeof(*log), GFP_KERNEL);
	int err = 0;

	if (!log)
		return -ENOMEM;
	init_waitqueue_head(&log->wait);
	mutex_init(&log->reading);
	log->bytes = vmalloc(LOG_BYTES);
	if (!log->bytes) {
		kfree(log);
		return -ENOMEM;
	}
	mutex_lock(&attached);
	if (vs->log_shut) {
		err = -ENODEV;
	} else if (vs->log) {
		err = -EBUSY;
	} else {
		log->vs = vs;
		spin_lock_bh(&vs->lock);
		vs->log = log;
		spin_unlock_bh(&vs->lock);
	}
	mutex_unlock(&attached);
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
	struct vs_log *log = file->private_data;

	mutex_lock(&attached);
	if (log->vs)
		detach(log->vs);
	mutex_unlock(&attached);
	vfree(log->bytes);
	kfree(log);
	return 0;
}

static bool readable(const struct vs_log *log)
{
	/* Pairs with the release in write_log(). */
	return smp_load_acquire(&log->head) != log->tail || READ_ONCE(log->lost) ||
	       READ_ONCE(log->ended);
}

static ssize_t log_read(struct file *file, char __user *to, size_t count, loff_t *pos)
{
	struct vs_log *log = file->private_data;
	ssize_t result;
	u32 length, at;

	if (!(file->f_flags & O_NONBLOCK)) {
		result = wait_event_interruptible(log->wait, readable(log));
		if (result)
			return result;
	}
	result = mutex_lock_interruptible(&log->reading);
	if (result)
		return result;
	at = log->tail % LOG_BYTES;
	/* Pairs with the release in write_log(). */
	length = min_t(size_t, count, smp_load_acquire(&log->head) - log->tail);
	length = min(length, LOG_BYTES - at);
	if (length && copy_to_user(to, log->bytes + at, length)) {
		result = -EFAULT;
	} else if (length) {
		/* Pairs with the acquire in write_log(): read before it is written over. */
		smp_store_release(&log->tail, log->tail + length);
		result = length;
	} else if (READ_ONCE(log->lost)) {
		result = -EOVERFLOW;
	} else if (READ_ONCE(log->ended)) {
		result = 0;
	} else {
		result = -EAGAIN;	/* another reader was faster */
	}
	mutex_unlock(&log->reading);
	return result;
}

static __poll_t log_poll(struct file *file, poll_table *wait)
{
	struct vs_log *log = file->private_data;

	poll_wait(file, &log->wait, wait);
	return readable(log) ? EPOLLIN | EPOLLRDNORM : 0;
}

const struct file_operations vs_log_fops = {
	.owner = THIS_MODULE,
	.open = log_open,
	.read = log_read,
	.poll = log_poll,
	.release = log_release,
};
#endif /* CONFIG_DEBUG_FS */
