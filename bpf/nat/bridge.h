/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Past a bridge, straight to the port that a container is behind. BPF cannot read the bridge's own table, so the datapath keeps
 * one (docs/decisions/0016-past-the-bridge.md): the program on a port notes from whom frames come in there, the one on the
 * bridge that they arrive. An entry that either contradicts is not used: the bridge then finds the way, as it always can. */
#ifndef FASTNAT_NAT_BRIDGE_H
#define FASTNAT_NAT_BRIDGE_H

#include "clock.h"
#include "notes.h"

#define NS_PER_MS 1000000ULL

/* A port's program notes no more often than this that its station has been seen. */
#define STATION_GRANULARITY (16 * NS_PER_MS)
/* A frame that arrives at the bridge came in by a port this long ago at most; the rest is for clocks of other CPUs. */
#define STATION_DELAY (150 * NS_PER_MS)
/* Another MAC address may take a port over when this one has been silent for so long. */
#define STATION_SILENCE (1000 * NS_PER_MS)
/* What the bridge has not confirmed for so long may have changed unnoticed. The kernel confirms a neighbour that is sent to
 * within 51 s: 45 until it doubts it, 5 until it asks, and the answer. */
#define STATION_LIFETIME (120000 * NS_PER_MS)

static __always_inline bool passed(__u64 now, __u64 then, __u64 period)
{
	return (__s64)(now - then) > (__s64)period;
}

/* The port that frames to a MAC address leave by, or 0: through the bridge, or the device is none. */
static __always_inline __u32 station_port(__u32 device, const __u8 *mac)
{
	struct station_key key = {.bridge = device};
	struct bridge_port *port;
	__u32 *found, index;

	__builtin_memcpy(key.mac, mac, ETH_ALEN);
	found = bpf_map_lookup_elem(&bridge_stations, &key);
	if (!found)
		return 0;
	index = *found;
	port = bpf_map_lookup_elem(&bridge_ports, &index);
	if (!port || port->bridge != device || !mac_equal(port->station, mac) || !port->confirmed ||
	    passed(time_now(), port->confirmed, STATION_LIFETIME))
		return 0;
	return bpf_map_lookup_elem(&bridge_port_devices, &index) ? index : 0;
}

/* A frame of another source than before has come in by a port, or the first one for a while. */
__noinline int station_note(struct __sk_buff *skb)
{
	struct ethhdr *ethernet = (void *)(long)skb->data;
	struct station_key key = {};
	__u64 now = time_now();
	__u32 index = skb->ifindex;
	struct bridge_port *port;
	__u32 *found;

	port = bpf_map_lookup_elem(&bridge_ports, &index);
	if (!port || (void *)(ethernet + 1) > (void *)(long)skb->data_end)
		return 0;
	if (!mac_equal(ethernet->h_source, port->station)) {
		if (port->seen && !passed(now, port->seen, STATION_SILENCE))
			return 0; /* several behind one port: one of them has it */
		port->confirmed = 0;
		__builtin_memcpy(port->station, ethernet->h_source, ETH_ALEN);
	}
	port->seen = now;
	key.bridge = port->bridge;
	__builtin_memcpy(key.mac, ethernet->h_source, ETH_ALEN);
	found = bpf_map_lookup_elem(&bridge_stations, &key);
	if (!found || *found != index)
		bpf_map_update_elem(&bridge_stations, &key, &index, BPF_ANY);
	return 0;
}

/* A frame has arrived at a bridge. By the port that its source has been seen at: so the bridge forwards what comes in there,
 * and to its host. By another way: the source has moved. */
__noinline int station_confirm(struct __sk_buff *skb)
{
	struct ethhdr *ethernet = (void *)(long)skb->data;
	struct station_key key = {.bridge = skb->ifindex};
	__u64 now = time_now();
	struct bridge_port *port;
	__u32 *found, index;

	if ((void *)(ethernet + 1) > (void *)(long)skb->data_end)
		return 0;
	__builtin_memcpy(key.mac, ethernet->h_source, ETH_ALEN);
	found = bpf_map_lookup_elem(&bridge_stations, &key);
	if (!found)
		return 0;
	index = *found;
	port = bpf_map_lookup_elem(&bridge_ports, &index);
	if (!port || passed(now, port->seen, STATION_DELAY))
		bpf_map_delete_elem(&bridge_stations, &key);
	else if (passed(now, port->confirmed, STATION_SILENCE))
		port->confirmed = now;
	return 0;
}

/* The note of the port, or of another one whose ifindex ends in the same bits. */
static __always_inline struct port_note *port_note_at(__u32 port)
{
	__u32 place = port % PORT_NOTES;

	return bpf_map_lookup_elem(&port_notes, &place);
}

/* Whether a frame that has come in by a port is for the host itself: not for a neighbour on the bridge, nor for everybody. The
 * kernel knows only when it has reached the bridge. Found in bridge_ports, a hash; `frame` becomes the note where it is. */
static __always_inline bool port_frame_is_for_host_by_map(struct __sk_buff *skb, const struct ethhdr *ethernet,
							  struct port_note *note, const struct port_note *frame)
{
	__u32 index = frame->port;
	struct bridge_port *port = bpf_map_lookup_elem(&bridge_ports, &index);

	if (!port)
		return false;
	if (!mac_equal(ethernet->h_source, port->station) || passed(time_now(), port->seen, STATION_GRANULARITY))
		station_note(skb);
	if (skb->vlan_present || !mac_equal(ethernet->h_dest, port->bridge_mac))
		return false;
	if (mac_equal(ethernet->h_source, port->station))
		*note = *frame;
	return true;
}

/* The same, and where that has been seen in this tick, without the hash. */
static __always_inline bool port_frame_is_for_host(struct __sk_buff *skb)
{
	struct port_note frame = {.port = skb->ifindex, .tick = bpf_jiffies64()}, *note = port_note_at(frame.port);
	const struct ethhdr *ethernet = (void *)(long)skb->data;

	if (!note || (void *)(ethernet + 1) > (void *)(long)skb->data_end)
		return false;
	__builtin_memcpy(&frame.bridge_mac_and_station, ethernet->h_dest, sizeof(frame.bridge_mac_and_station));
	__builtin_memcpy(&frame.rest_of_station, ethernet->h_source + 2, sizeof(frame.rest_of_station));
	if (note->port == frame.port && note->tick == frame.tick && note->rest_of_station == frame.rest_of_station &&
	    note->bridge_mac_and_station == frame.bridge_mac_and_station && !skb->vlan_present)
		return true;
	return port_frame_is_for_host_by_map(skb, ethernet, note, &frame);
}

#endif
