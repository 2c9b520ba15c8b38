/* SPDX-License-Identifier: GPL-2.0-only */
/* The glue is written for a current kernel; this is what older ones call otherwise. */
#ifndef __XEN_NETBACK__VSNOOP_COMPAT_H__
#define __XEN_NETBACK__VSNOOP_COMPAT_H__

#include <linux/timer.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define timer_delete_sync(timer) del_timer_sync(timer)
#endif

#ifndef timer_container_of	/* 6.16 */
#define timer_container_of(var, timer, field) from_timer(var, timer, field)
#endif

#endif /* __XEN_NETBACK__VSNOOP_COMPAT_H__ */
