/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the module says in a vif's key vsnoop-state: the one list of these words, for the
 * module, for `vsnoop xen` and for its tests.
 */
#ifndef __XEN_NETBACK__VSNOOP_WORDS_H__
#define __XEN_NETBACK__VSNOOP_WORDS_H__

#define VSNOOP_SAYS_OFF "off"
#define VSNOOP_SAYS_RING "ring"
#define VSNOOP_SAYS_HOLD "hold"
#define VSNOOP_SAYS_QUIESCING "quiescing"	/* it drains */
#define VSNOOP_SAYS_QUIESCED "quiesced"		/* nothing is outstanding */
#define VSNOOP_SAYS_WAITING "waiting"		/* for a frontend */

/* All others begin with this. */
#define VSNOOP_SAYS_ERROR "error: "
#define VSNOOP_SAYS_SETTING VSNOOP_SAYS_ERROR "no such setting: "	/* and the word of it */
#define VSNOOP_SAYS_NO_MEMORY VSNOOP_SAYS_ERROR "no memory"
#define VSNOOP_SAYS_WAITS VSNOOP_SAYS_ERROR "waits for memory"	/* and how many share how much */
#define VSNOOP_SAYS_NO_NOTIFY VSNOOP_SAYS_ERROR "frontend lacks feature-rx-notify"
#define VSNOOP_SAYS_XDP VSNOOP_SAYS_ERROR "frontend uses XDP"
#define VSNOOP_SAYS_QUEUES VSNOOP_SAYS_ERROR "frontend has more queues than the interface"

#endif /* __XEN_NETBACK__VSNOOP_WORDS_H__ */
