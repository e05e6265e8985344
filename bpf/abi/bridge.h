/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Containers behind a bridge: which port of it a frame to one of them would leave by. */
#ifndef FASTNAT_ABI_BRIDGE_H
#define FASTNAT_ABI_BRIDGE_H

#include <linux/types.h>

/* A MAC address behind a bridge. */
struct station_key {
	__u32 bridge; /* ifindex */
	__u8 mac[6];
	__u16 zero;
};

/* A port that fastnat_port is attached to. The loader writes the bridge, the datapath whom it has heard of there. */
struct bridge_port {
	__u32 bridge; /* ifindex */
	__u8 bridge_mac[6];
	__u8 station[6]; /* the source of frames that come in by it */
	__u64 seen;      /* when one came in last: CLOCK_MONOTONIC, ns, up to STATION_GRANULARITY late */
	__u64 confirmed; /* when the bridge was last seen to take one for the host; 0: never */
};

/* What a CPU has found of a port in this tick: frames from its station to the bridge are for the host. As they stand in a
 * frame, for comparisons of several bytes at once. */
struct port_note {
	__u32 port; /* ifindex */
	__u32 tick; /* jiffies */
	__u64 bridge_mac_and_station;
	__u32 rest_of_station;
	__u32 zero;
};

_Static_assert(sizeof(struct station_key) == 12, "struct station_key");
_Static_assert(sizeof(struct bridge_port) == 32, "struct bridge_port");
_Static_assert(sizeof(struct port_note) == 24, "struct port_note");

#endif
