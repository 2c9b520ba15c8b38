// SPDX-License-Identifier: GPL-2.0-only
/* vsnoop in xen-netback: the decision log, a file in debugfs. */
#include "vsnoop_private.h"

#include <linux/poll.h>
#include <linux/vmalloc.h>

#define LOG_BYTES (4u << 20)

static void write_log(void *context, const u8 *bytes, u32 length)
{
	struct vs_log *log = context;
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
void vs_log_record(void *context, const u8 *bytes, u32 length)
{
	struct xenvif_vsnoop *vs = context;

	if (vs->recording)
		write_log(vs->log, bytes, length);
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
	struct vs_log *log = file->private_data;

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
	struct vs_log *log = file->private_data;
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

const struct file_operations vs_log_fops = {
	.owner = THIS_MODULE,
	.open = log_open,
	.read = log_read,
	.release = log_release,
};
#endif /* CONFIG_DEBUG_FS */
