// SPDX-License-Identifier: GPL-2.0-only
/* vsnoop in xen-netback: what a guest's key in xenstore says. */
#include "vsnoop_private.h"

void vs_fill_guest_config(struct vsnoop_guest_config *guest, const struct vs_settings *set,
			  u32 granted_kib)
{
	vsnoop_guest_defaults(guest);
	guest->policy = set->policy;
	guest->engage = set->engage;
	guest->early_sack = set->early_sack;
	guest->budget = granted_kib << 10;
	guest->flow_budget = min(set->flow_kib, granted_kib) << 10;
	/* The ring, and netback's own queue in front of it. */
	if (set->policy == VSNOOP_POLICY_RING)
		guest->budget = XEN_NETIF_RX_RING_SIZE * XEN_PAGE_SIZE * 3 / 2;
}

/* Reads "hold,vif_kib=8192,..."; NULL if it is well formed, else what is not. */
const char *vs_parse_settings(char *text, struct vs_settings *set)
{
	char *word = strsep(&text, ",");
	unsigned int number;

	*set = (struct vs_settings){ .vif_kib = VIF_KIB_DEFAULT, .flow_kib = FLOW_KIB_DEFAULT,
				  .early_sack = true };
	if (!strcmp(word, "off") || !*word)
		set->policy = VSNOOP_POLICY_OFF;
	else if (!strcmp(word, "ring"))
		set->policy = VSNOOP_POLICY_RING;
	else if (!strcmp(word, "hold"))
		set->policy = VSNOOP_POLICY_HOLD;
	else
		return word;
	while ((word = strsep(&text, ","))) {
		if (sscanf(word, "vif_kib=%u", &number) == 1 && number >= VIF_KIB_LEAST &&
		    number <= 1 << 21)
			set->vif_kib = number;
		else if (sscanf(word, "flow_kib=%u", &number) == 1 && number >= 64 &&
			 number <= 1 << 21)
			set->flow_kib = number;
		else if (!strcmp(word, "early_sack=0") || !strcmp(word, "early_sack=1"))
			set->early_sack = word[11] == '1';
		else if (!strcmp(word, "engage=always"))
			set->engage = VSNOOP_ENGAGE_ALWAYS;
		else if (!strcmp(word, "engage=auto"))
			set->engage = VSNOOP_ENGAGE_AUTO;
		else
			return word;
	}
	return NULL;
}
