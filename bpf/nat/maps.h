/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* All maps and load-time constants. Sizes that are 1 here are set by the loader before the maps are made. */
#ifndef FASTNAT_NAT_MAPS_H
#define FASTNAT_NAT_MAPS_H

#include "../net/icmp.h"
#include "../net/translate.h"

/* Set by the loader from the maps' sizes and the settings' seed. */
const volatile struct layout layout;

/* hash → up to seven entries that name a flow and a direction. Written by the datapath, lock-free (flow_index.h). Full: the
 * buckets of a tuple are; the flow is not made (REASON_TABLE_FULL). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_bucket);
} flow_index SEC(".maps");

/* slot / 2 → flow, one of two (flow_at). Written and freed by the datapath; read by the loader through mmap. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_pair);
} flows SEC(".maps");

/* Which slots are taken, one bit each. Written by atomic or/and (flow_slots.h). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} flow_slots SEC(".maps");

/* Where a CPU looks for slots (flow_slots.h). */
struct slot_cursor {
	__u32 place;     /* the slot that it looks at first for the next flow, less what keeps CPUs apart */
	__u32 failed[2]; /* jiffies when a search for a slot, and for a pair, found nothing last */
	__u32 is_wide;   /* of the search that goes on */
	__u32 found;     /* by the last search, or SLOT_NONE */
	__u32 resting;   /* free pairs that it could not take */
};

/* One element. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct slot_cursor);
} slot_cursors SEC(".maps");

/* One element: how many flows there are. Atomic adds, on creation, opening and deletion alone. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_gauges);
} flow_gauges SEC(".maps");

/* One element, written by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

/* address or any, first port, protocol → mapping. Written by the loader; full: the loader refuses. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_MAPPINGS);
	__type(key, struct mapping_key);
	__type(value, struct mapping);
} mappings SEC(".maps");

/* address or any, protocol → where its ranges begin. Written by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_RANGE_OWNERS);
	__type(key, struct range_key);
	__type(value, struct range_starts);
} mapping_ranges SEC(".maps");

/* mapping, source prefix → nothing: who may connect to a restricted mapping. Written by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_ALLOWED_PREFIXES);
	__type(key, struct source_key);
	__type(value, __u8);
} mapping_sources SEC(".maps");

/* mapping or masquerade id → whose it is; none for one that was added by hand. Written and read by the loader alone. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_MAPPINGS + MAX_MASQUERADES);
	__type(key, __u32);
	__type(value, struct mapping_owner);
} mapping_owners SEC(".maps");

/* network of containers → how it is masqueraded. Written by the loader; full: the loader refuses. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_MASQUERADES);
	__type(key, struct masquerade_key);
	__type(value, struct masquerade);
} masquerades SEC(".maps");

/* masquerade, destination prefix → nothing: packets to there are not masqueraded. Written by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_EXEMPTIONS);
	__type(key, struct exemption_key);
	__type(value, __u8);
} masquerade_exemptions SEC(".maps");

/* mapping or masquerade id → how many flows it may have. Written by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_MAPPINGS + MAX_MASQUERADES);
	__type(key, __u32);
	__type(value, struct flow_limits);
} flow_limits SEC(".maps");

/* mapping or masquerade id → how many flows live that count. Atomic adds; 0 when the loader gives out the id. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MAX_MAPPINGS + MAX_MASQUERADES);
	__type(key, __u32);
	__type(value, __u64);
} limit_counts SEC(".maps");

/* mapping or masquerade id → when it has used up what its rate allowed so far (ns; limit.h). Compare-and-exchange; zeroed by
 * the loader when it gives out the id. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_MAPPINGS + MAX_MASQUERADES);
	__type(key, __u32);
	__type(value, __u64);
} limit_dues SEC(".maps");

/* hash of id and source → how many of its flows live that count. Written and freed by the datapath (limit.h). Full: both
 * buckets of a source are; its flow is refused (REASON_SOURCE_FLOW_LIMIT). */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct source_bucket);
} source_counts SEC(".maps");

/* hash of id and source → when it has used up what its rate allowed so far. Written by the datapath (limit.h). Full: in a
 * source's bucket, the one goes that has used up least. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SOURCE_DUE_BUCKETS);
	__type(key, __u32);
	__type(value, struct source_due_bucket);
} source_dues SEC(".maps");

/* mapping or masquerade id → counters of this CPU. Zeroed by the loader when it gives out the id. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_MAPPINGS + MAX_MASQUERADES);
	__type(key, __u32);
	__type(value, struct mapping_counters);
} mapping_counters SEC(".maps");

/* Next hops that flows share. Data of the programs, which is a map of one value: no instruction looks an element up, where a
 * map of them takes ten. The only data that changes, as the loader knows it by its section. */
struct {
	/* mapping id → where the packets to its target leave. Written by the datapath; zeroed by the loader when it gives out
	 * the id. */
	struct shared_hop targets[MAX_MAPPINGS];
	/* number → next hop. 0 is none. Written by the datapath; full: those of a hash are in use, and packets ask for their
	 * way each time. */
	struct shared_hop shared[MAX_NEXT_HOPS];
} hops;

/* enum reason → packets that were not forwarded for it, on this CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASON_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} reason_counters SEC(".maps");

/* ifindex → itself: devices that take frames redirected from XDP. Written by the loader, which knows how to find out; the
 * kernel removes a device that goes. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, MAX_XDP_OUTPUTS);
	__type(key, __u32);
	__type(value, __u32);
} xdp_outputs SEC(".maps");

/* ifindex → itself: veths whose other end, in a namespace of its own, may be given packets straight. Written by the loader,
 * which knows what would be passed by; the kernel removes a device that goes. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, MAX_PEER_OUTPUTS);
	__type(key, __u32);
	__type(value, __u32);
} peer_outputs SEC(".maps");

/* ifindex → a port of a bridge that fastnat_port is attached to. Written by the loader, what has been heard there by the
 * datapath; full: the bridge finds the way to further ports. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_BRIDGE_PORTS);
	__type(key, __u32);
	__type(value, struct bridge_port);
} bridge_ports SEC(".maps");

/* ifindex → itself: the same ports. Written by the loader; the kernel removes a device that goes, and tells so. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, MAX_BRIDGE_PORTS);
	__type(key, __u32);
	__type(value, __u32);
} bridge_port_devices SEC(".maps");

/* bridge, MAC address → ifindex of the port that it was heard at last. Written and deleted by the datapath, first entries by
 * the loader; full: the one used least lately goes. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_BRIDGE_PORTS);
	__type(key, struct station_key);
	__type(value, __u32);
} bridge_stations SEC(".maps");

/* A flow to be made. The destination port of `reply` is what the client's own becomes: as it stands there if that is free and
 * in the range, else another one of the range. */
struct flow_request {
	struct tuple original;
	struct tuple reply;
	__u8 arrival_mac[6]; /* that the first packet was sent to */
	__u16 zero;
	__u16 first_port; /* host byte order, as last_port */
	__u16 last_port;
	__u32 mapping_id; /* of the mapping or masquerade */
	__u32 flags;      /* enum flow_flag */
	__u32 parent;     /* slot of the pattern whose port it uses, or SLOT_NONE */
};

#define SLOT_NONE 0xffffffffU

/* Parts of struct first_packet, each written in one store of eight bytes (pipeline/begin.h). */
struct first_packet_shape {
	__u32 ip_length; /* as in struct packet, like the others */
	__u16 transport_offset;
	__u16 headers_length;
};

struct first_packet_kind {
	__u32 seen;   /* enum flow_seen */
	bool is_ipv4; /* as in struct packet, like the next two */
	bool without_checksum;
	__u8 streak;
	bool is_expected; /* nobody has looked whether there is such a flow */
};

/* What the program that has met a packet of no known flow has found out of it, for the one that begins the flow. The packet's
 * tuple is the request's original one. */
struct first_packet {
	__u64 hash;       /* of its tuple */
	__u64 reply_hash; /* of the request's reply */
	__u64 former;     /* index entry of the flow of a connection that this one follows on the same tuple, or 0 */
	__u64 now;        /* CLOCK_MONOTONIC, ns, when the flow is begun */
	struct first_packet_shape shape;
	struct first_packet_kind kind;
	__u32 hop; /* of flows that share none of a mapping; as in struct flow_half, like the next */
	__u32 refreshed;
};

/* Datagram → what its first fragment told. Written by the datapath; full: the note used least lately goes. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FRAGMENT_NOTES);
	__type(key, struct fragment_key);
	__type(value, struct fragment_note);
} fragment_notes SEC(".maps");

/* Datagram → the slots of its fragments that wait for its first. Written and deleted by the datapath; full: the queue used
 * least lately goes. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FRAGMENT_SLOTS);
	__type(key, struct fragment_key);
	__type(value, struct fragment_queue);
} fragment_queues SEC(".maps");

/* A ring of fragments that wait. Written and freed by the datapath; full: the oldest is overwritten. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FRAGMENT_SLOTS);
	__type(key, __u32);
	__type(value, struct fragment_slot);
} fragment_slots SEC(".maps");

/* One element: how many of those slots have been claimed so far. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} fragment_cursor SEC(".maps");

/* A route, and what bpf_redirect_neigh needs to find the neighbour itself. */
struct route {
	struct next_hop next_hop; /* where a frame leaves: behind a bridge, by the container's port where that is known */
	__u32 output;             /* where the route leads, the bridge: the neighbour is known there */
	__u32 zero;
	struct bpf_redir_neigh neighbour;
};

/* Bytes of an ICMP message that are summed at a time. */
#define MESSAGE_CHUNK 256

/* Bytes of a packet that a report quotes at most: as many as fit the 1,280 that every IPv6 link carries (RFC 4443, 2.4c). */
#define REPORT_QUOTE_BYTES (1280 - 40 - 8)

struct report_message {
	struct icmp_header header;
	__u8 quote[REPORT_QUOTE_BYTES]; /* zeros where there is less */
};

/* What a packet needs room for beyond its stack of 512 bytes. */
struct scratch {
	struct flow_request request;
	struct first_packet first;
	/* The MAC address that packets have arrived with last (nat/shared_hop.h): a next hop that is zero but for its source,
	 */
	struct next_hop arrival;
	__u32 arrival_hop;      /* its number, */
	__u32 arrival_found;    /* and when that was found: CLOCK_MONOTONIC in units of 2^20 ns */
	struct tuple candidate; /* looked at by a function and its callers: source_port.h, route.h, cross.h */
	struct tuple unbound;   /* masquerade.h: the original tuple while a pattern is in its place */
	__u32 next_port;        /* where the search for a free port goes on */
	struct route route;
	struct quote quote;                   /* icmp.h */
	__u8 chunk[MESSAGE_CHUNK];            /* of a message that is summed */
	struct report_message report;         /* report.h */
	struct fragment_key fragment_key;     /* of the packet at hand */
	struct fragment_note fragment_note;   /* of its datagram */
	struct fragment_queue fragment_queue; /* that its first fragment has taken */
};

/* One element. A program at TC or XDP has its CPU for itself until it ends. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* One element: when the reports of this CPU would have come to an end, had they been sent at their rate (ns; report.h). */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} report_limits SEC(".maps");

/* Bytes of the longest frame that is cut: one with jumbo frames' MTU of 9,216. */
#define CUT_FRAME_BYTES (14 + 9216)
#define CUT_MAX_FRAGMENTS 64

/* A packet that is cut into fragments (cut.h). Lengths in bytes. */
struct cut {
	__u32 header_length;                   /* of the IPv4 header */
	__u32 payload;                         /* behind it, in all fragments */
	__u32 place;                           /* the header's flags and fragment offset, host byte order */
	__u32 step;                            /* payload of each fragment but the last */
	__u16 zero;                            /* puts the IPv4 header on a word's boundary */
	__u8 frame[2 * CUT_FRAME_BYTES + 128]; /* half of it in use: the verifier knows offset and length, not their sum */
};

/* One element: room for it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cut);
} cuts SEC(".maps");

/* enum stage → the program that goes on with a packet. Written by the loader before anything is attached. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STAGE_COUNT);
	__type(key, __u32);
	__type(value, __u32);
} stages SEC(".maps");

/* STAGE_BEGIN, STAGE_KNOWN → the program that goes on with a packet at XDP. Written by the loader before it attaches any. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, STAGE_COUNT);
	__type(key, __u32);
	__type(value, __u32);
} xdp_stages SEC(".maps");

struct sweep {
	struct bpf_timer timer;
	__u32 cursor; /* word of flow_slots where the next step begins */
};

/* One element: the timer that ends idle flows (sweep.h). Lives as long as the map is pinned. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sweep);
} sweeps SEC(".maps");

static __always_inline void *map_only_element(void *map)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(map, &zero);
}

static __always_inline void reason_count(enum reason reason)
{
	__u32 index = reason;
	__u64 *counter;

	if (index >= REASON_COUNT)
		return;
	counter = bpf_map_lookup_elem(&reason_counters, &index);
	if (counter)
		(*counter)++;
}

#endif
