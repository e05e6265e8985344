/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What the loader tells the datapath. */
#ifndef FASTNAT_ABI_SETTINGS_H
#define FASTNAT_ABI_SETTINGS_H

#include <stddef.h>

#include "address.h"
#include "limits.h"

/* Seconds without a packet after which a flow ends. */
struct timeouts {
	__u32 tcp_half_open;
	__u32 tcp_open;
	__u32 tcp_closing;
	__u32 udp;
	__u32 icmp;
};

/* Changed while packets flow; one element of the map `settings`. */
struct settings {
	struct timeouts timeouts;
	__u32 max_flows;
	__u32 max_half_open;
	__u32 has_addressed_mappings; /* any mapping with a host address */
	__u32 has_ranges;             /* any mapping of more than one port */
	__u32 has_masquerades;        /* any at all */
	__u32 abi_version;            /* ABI_VERSION of the loader that made the maps; where it stood in all versions */
	__u32 mappings_version;       /* counts the changes of mappings */
	__u32 has_endpoints;          /* any masquerade that is endpoint-independent */
	__u32 first_free_id; /* the loader's: no mapping has an id from here on; 0: nobody knows, a change is under way */
	__u64 hash_seed;
};

/* Load-time constants of a program (read-only data). They follow from the maps and the kernel, so every program on one set of
 * maps has the same. */
struct layout {
	__u64 hash_keys[HASH_KEYS]; /* drawn from hash_seed */
	__u32 bucket_mask;          /* buckets of flow_index - 1; a power of two less one */
	__u32 slot_word_mask;       /* words of flow_slots - 1; a power of two less one */
	__u32 second_ticks;         /* jiffies that a second takes: CONFIG_HZ */
	__u32 zero;
};

/* Where the kernel's socket buffers say whether their checksum is finished: ip_summed of its struct sk_buff. Load-time
 * constants; they follow from the kernel alone. */
struct checksum_state_place {
	__u32 offset; /* bytes; 0: not known */
	__u32 shift;  /* bits */
};

/* Stands in the place of the kernel function bpf_cast_to_kern_ctx until the loader has put that there. No helper has this
 * number. */
#define KERNEL_CAST_PLACEHOLDER 0x7fffffff

/* Input of the syscall program that ends flows: those of mappings or masquerades, those that one source has begun, or all. */
struct flush_request {
	__u32 mapping_id; /* the first one's; the others' follow it */
	__u32 mappings;
	__u32 drains;    /* not 0: TCP connections and SCTP associations go on */
	__u32 all;       /* not 0: whatever began them */
	__u32 by_source; /* not 0: those of `source`, whatever its mapping or masquerade */
	__u32 cut;       /* not 0: TCP flows are not deleted but cut, so that both ends learn of it */
	struct address source;
	__u32 ended; /* out */
};

_Static_assert(sizeof(struct settings) == 64, "struct settings");
_Static_assert(offsetof(struct settings, abi_version) == 40, "what other versions read to learn that they are others");
_Static_assert(sizeof(struct layout) == 64, "struct layout");

#endif
