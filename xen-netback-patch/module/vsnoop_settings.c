// SPDX-License-Identifier: GPL-2.0-only
/* vsnoop in xen-netback: what a guest's key in xenstore says. */
#include "vsnoop_private.h"

void vs_fill_guest_config(struct vsnoop_guest_config *guest, const struct vs_settings *set,
			  u32 limit_kib)
{
	vsnoop_guest_defaults(guest);
	guest->policy = set->policy;
	guest->engage = set->engage;
	guest->early_sack = set->early_sack;
	guest->budget = limit_kib << 10;
	guest->flow_budget = min(set->flow_kib, limit_kib) << 10;
	/* The ring, and netback's own queue in front of it. */
	if (set->policy == VSNOOP_POLICY_RING)
		guest->budget = XEN_NETIF_RX_RING_SIZE * XEN_PAGE_SIZE * 3 / 2;
}

/* Takes "KEY=NUMBER" if it is, all of it, and in range. */
static bool number(const char *word, const char *key, u32 least, u32 most, u32 *value)
{
	const size_t length = strlen(key);
	unsigned int found;

	if (strncmp(word, key, length) || word[length] != '=')
		return false;
	word += length + 1;
	/* kstrtouint() takes a sign before it, and a newline behind it. */
	if (word[strspn(word, "0123456789")] || kstrtouint(word, 10, &found) ||
	    found < least || found > most)
		return false;
	*value = found;
	return true;
}

/* Reads "hold,vif_kib=8192,..."; NULL if it is well formed, else what is not. */
const char *vs_parse_settings(char *text, struct vs_settings *set)
{
	char *word = strsep(&text, ",");

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
		if (number(word, "vif_kib", VIF_KIB_LEAST, VIF_KIB_MOST, &set->vif_kib) ||
		    number(word, "flow_kib", FLOW_KIB_LEAST, VIF_KIB_MOST, &set->flow_kib))
			continue;
		if (!strcmp(word, "early_sack=0") || !strcmp(word, "early_sack=1"))
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

bool vs_same_settings(const struct vs_settings *one, const struct vs_settings *other)
{
	return one->policy == other->policy && one->engage == other->engage &&
	       one->early_sack == other->early_sack && one->vif_kib == other->vif_kib &&
	       one->flow_kib == other->flow_kib;
}
