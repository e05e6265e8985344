/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What each CPU has found out less than a second ago, and need not ask again: the maps of it. */
#ifndef FASTNAT_NAT_NOTES_H
#define FASTNAT_NAT_NOTES_H

#include "maps.h"

/* hash of an address → the last one of that hash that was this host's, on this CPU. Written by the datapath, overwritten by the
 * next. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HOST_ADDRESSES);
	__type(key, __u32);
	__type(value, struct address_note);
} host_addresses SEC(".maps");

/* hash of an address → the last one of that hash that a client came from, and that was not this host's. As host_addresses. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CLIENT_ADDRESSES);
	__type(key, __u32);
	__type(value, struct address_note);
} client_addresses SEC(".maps");

/* hash of an ifindex → the last arrival of that hash, on this CPU. Written by the datapath, overwritten by the next. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ARRIVALS);
	__type(key, __u32);
	__type(value, struct arrival);
} arrivals SEC(".maps");

/* One element: the mapping that was found last, on this CPU. Written by the datapath, overwritten by the next. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mapping_note);
} mapping_notes SEC(".maps");

/* hash of two addresses → the masquerade that holds between the last two of that hash, on this CPU. Written by the datapath,
 * overwritten by the next. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MASQUERADE_NOTES);
	__type(key, __u32);
	__type(value, struct masquerade_note);
} masquerade_notes SEC(".maps");

/* hash of two addresses → the last way between two of that hash, on this CPU: for flows that have not asked for a while, or not
 * yet. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ROUTE_NOTES);
	__type(key, __u32);
	__type(value, struct route_note);
} route_notes SEC(".maps");

/* last bits of an ifindex → the last frame of a station of such a port that was for the host, on this CPU. Written by the
 * datapath, overwritten by the next. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PORT_NOTES);
	__type(key, __u32);
	__type(value, struct port_note);
} port_notes SEC(".maps");

#endif
