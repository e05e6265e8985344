/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Why a packet was not forwarded: one list for the counter's number, its name and its text. */
#ifndef FASTNAT_ABI_REASONS_H
#define FASTNAT_ABI_REASONS_H

/* X(identifier, name, dropped, text): `dropped` 1 means the packet was dropped, 0 that it went on up the stack untouched. */
#define FASTNAT_REASONS(X) \
	X(MALFORMED, malformed, 0, "header truncated, inconsistent or of a wrong length") \
	X(FRAGMENT, fragment, 0, "fragment that came before its first; a copy is kept to go with that") \
	X(FRAGMENT_HELD, fragment_held, 1, "fragment from a container that came before its first, kept to go with that") \
	X(FRAGMENT_NO_ROOM, fragment_no_room, 0, "fragment that came before its first and could not be kept") \
	X(TINY_FRAGMENT, tiny_fragment, 1, "TCP header spread over fragments") \
	X(NOT_ALLOWED, not_allowed, 0, "source not in the mapping's --allow list") \
	X(NOT_LOCAL, not_local, 0, "port is published, but the destination is not an address of this host") \
	X(LINK_LOCAL, link_local, 0, "source address that may not leave its link") \
	X(MARTIAN_SOURCE, martian_source, 1, "source address that no host may send from, or of this host itself") \
	X(SOURCE_ROUTED, source_routed, 1, "IPv4 option that prescribes the way: loose or strict source route") \
	X(FILTERED, filtered, 1, "sender that --filter keeps from the external port of a container") \
	X(TTL_EXPIRED, ttl_expired, 1, "TTL or hop limit used up") \
	X(TOO_BIG, too_big, 1, "longer than the MTU of the way to its next hop") \
	X(UNTRANSLATABLE, untranslatable, 1, \
	  "between IPv4 and IPv6: fragments, IPv4 options, UDP without a checksum, UDP GSO, some ICMP errors") \
	X(CUT_FAILED, cut_failed, 1, "too long for the MTU, and the kernel had no memory to cut it") \
	X(NO_ROUTE, no_route, 1, "no route to the target or client, or forwarding is off") \
	X(TABLE_FULL, table_full, 1, "the flow table is full") \
	X(HALF_OPEN_FULL, half_open_full, 1, "too many half-open flows, and none found to give way") \
	X(FLOW_LIMIT, flow_limit, 1, "as many flows live as --limit-flows allows") \
	X(RATE_LIMIT, rate_limit, 1, "more flows began than --limit-rate allows") \
	X(SOURCE_FLOW_LIMIT, source_flow_limit, 1, "as many flows of its source live as --limit-flows-per-source allows") \
	X(SOURCE_RATE_LIMIT, source_rate_limit, 1, "more flows of its source began than --limit-rate-per-source allows") \
	X(NO_FREE_PORT, no_free_port, 1, "no free source port towards the target") \
	X(NO_ADDRESS, no_address, 1, "masqueraded, but the uplink has no address to send from") \
	X(FLOW_RACE, flow_race, 1, "two CPUs made the same flow at once, or it went while the packet was handled") \
	X(MAPPING_RACE, mapping_race, 1, "mappings changed at the moment the packet began a flow; its sender tries again") \
	X(BAD_ERROR, bad_error, 1, "ICMP error with a wrong checksum, of its own or in the header that it quotes") \
	X(REPORT_LIMITED, report_limited, 1, "dropped without an ICMP error to its sender: too many at once") \
	X(CHECKSUM_UPDATE, checksum_update, 1, "the kernel refused a checksum update")

#define FASTNAT_REASON_ENUM(identifier, name, dropped, text) REASON_##identifier,

enum reason {
	FASTNAT_REASONS(FASTNAT_REASON_ENUM) REASON_COUNT,
	/* Not counted: */
	REASON_NONE = REASON_COUNT,
	REASON_UNPUBLISHED,
};

#endif
