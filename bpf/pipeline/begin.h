/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* New flows about which nothing is to be asked: begun and their first packets forwarded at once, at either hook. All others are
 * STAGE_ADMIT's to begin, and to refuse (docs/decisions/0024-first-packets.md). */
#ifndef FASTNAT_PIPELINE_BEGIN_H
#define FASTNAT_PIPELINE_BEGIN_H

#include "admit.h"
#include "forward.h"

/* Has the index's line of the flow's replies fetched, if the packet begins one. 0: it is not masqueraded, as far as is noted.
 */
__noinline int outbound_expect(const struct tuple *original, __u32 ifindex, __u64 now)
{
	struct settings *current = map_only_element(&settings);
	const struct masquerade_note *note;
	struct tuple reply;

	if (!original || !current)
		return 0;
	note = masquerade_note_find(original, ifindex, READ_ONCE(current->mappings_version), now);
	if (!note)
		return 0;
	reply.source = original->destination;
	reply.destination = note->rule.address;
	tuple_set_ports(&reply, original->protocol, original->destination_port, original->source_port);
	flow_index_expect(tuple_hash(&reply, layout.hash_keys));
	return 1;
}

/* After a streak of first packets the next one is taken for one, too; a SYN from a client always is. */
static __always_inline bool first_packet_is_likely(const struct packet *packet)
{
	return packet->streak == STREAK_EXPECTED ||
	       (packet->streak < STREAK_EXPECTED && packet->side == SIDE_UPLINK && tcp_flags_begin(packet->tcp_flags));
}

/* Where the packet is likely to begin a flow, it is not waited until its lines of the index are there, only to find nothing:
 * what else has to be known of the flow is found out meanwhile (begin_at_once, begin_outbound). The first packet that was
 * wrongly expected ends the streak. */
static __always_inline bool first_packet_is_expected(struct packet *packet)
{
	struct clock *clock = map_only_element(&clocks);
	struct scratch *scratch;
	bool expected;

	packet->now = clock_now(clock);
	packet->streak = clock ? clock->streaks[packet->side] : 0;
	if (!clock || !(packet->streak || tcp_flags_begin(packet->tcp_flags)))
		return false;
	clock->streaks[packet->side] = 0;
	scratch = map_only_element(&scratches); /* not behind the store, nor for packets of known flows */
	if (!scratch)
		return false;
	expected = first_packet_is_likely(packet) && packet_may_begin(packet);
	if (packet->streak == STREAK_REFUTED)
		packet->streak = 0;
	if (expected)
		flow_index_expect(packet->hash);
	if (packet->side == SIDE_CONTAINER && !outbound_expect(packet->tuple, packet_ifindex(packet), packet->now))
		return false;
	if (expected)
		first_packet_note(packet, scratch, 0, true);
	return expected;
}

/* Whether there is no such flow, for certain. Then nobody has to look for it any more (begin_leave). */
static __always_inline bool first_packet_is_first(struct first_packet *first)
{
	if (!first->kind.is_expected)
		return true;
	first->kind.is_expected = !flow_index_lacks(first->hash);
	return !first->kind.is_expected;
}

/* Whether scratch's first packet, of a connection that begins, has the tuple of one that is over: then it has been looked for,
 * too. A function of its own, as stack is short where it is called. */
__noinline int first_packet_follows(void)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct flow *former;
	__u64 hash, entry;
	__u32 place;

	if (!scratch || !(scratch->first.kind.seen & SEEN_SYN))
		return 0;
	hash = scratch->first.hash;
	former = bucket_find(bucket_at(bucket_first(hash)), &scratch->request.original, hash, 0, &entry, &place);
	if (!former || entry_direction(entry) != DIRECTION_ORIGINAL || !flow_is_closing(former) || flow_is_in_doubt(former))
		return 0;
	scratch->first.former = entry;
	scratch->first.kind.is_expected = false;
	return 1;
}

/* The next packet here is this one: one packet at a time is on its way through the programs of a CPU. */
static __always_inline enum verdict first_packet_refute(struct packet *packet)
{
	struct clock *clock = map_only_element(&clocks);

	if (clock)
		clock->streaks[packet->side] = STREAK_REFUTED;
	return packet_continue(packet, packet->side == SIDE_CONTAINER ? STAGE_KNOWN_OUTBOUND : STAGE_KNOWN);
}

/* Leaves the packet, untouched so far, to those that ask; to the one that ends a former flow, where there is one; or to those
 * that look for its flow first. */
static __always_inline enum verdict begin_leave(struct packet *packet)
{
	struct scratch *scratch = map_only_element(&scratches);

	if (scratch && !first_packet_is_first(&scratch->first))
		return first_packet_refute(packet);
	if (packet->hook == HOOK_XDP)
		return VERDICT_PASS;
	return packet_continue(packet, scratch && scratch->first.former ? STAGE_ROUTE : STAGE_ADMIT);
}

/* What a flow that begins at once is begun by. */
struct beginning {
	struct settings *current;
	struct scratch *scratch;
	__u64 now;
	__u32 version; /* of the mappings and masquerades that are looked at */
};

/* The packet as the attached program has parsed it. */
static __always_inline void first_packet_recall(struct packet *packet, struct scratch *scratch)
{
	packet->tuple = &scratch->request.original;
	packet->transport_offset = scratch->first.shape.transport_offset;
	packet->ip_length = scratch->first.shape.ip_length;
	packet->headers_length = scratch->first.shape.headers_length;
	packet->is_ipv4 = scratch->first.kind.is_ipv4;
	packet->without_checksum = scratch->first.kind.without_checksum;
}

static __always_inline bool begin_enter(struct packet *packet, struct beginning *beginning)
{
	beginning->current = map_only_element(&settings);
	beginning->scratch = map_only_element(&scratches);
	packet->reason = REASON_NONE;
	if (!beginning->scratch || !beginning->current)
		return false;
	first_packet_recall(packet, beginning->scratch);
	beginning->now = beginning->scratch->first.now;
	beginning->version = READ_ONCE(beginning->current->mappings_version);
	return true;
}

/* Whether the packet is one that a known flow's program would forward. */
static __always_inline bool first_packet_is_ordinary(struct packet *packet)
{
	return !packet_options_length(packet) && !packet_ttl_is_used_up(packet) &&
	       !(packet->hook == HOOK_XDP && packet_checksum_is_partial(packet));
}

static __always_inline enum verdict first_packet_forward(struct packet *packet, const struct scratch *scratch,
							 struct rewrite *rewrite)
{
	rewrite->source = scratch->request.reply.destination;
	rewrite->destination = scratch->request.reply.source;
	rewrite->source_port = scratch->request.reply.destination_port;
	rewrite->destination_port = scratch->request.reply.source_port;
	rewrite_set_deltas(rewrite, packet->tuple, false);
	if (!packet_rewrite(packet, rewrite))
		return packet_refuse(packet, REASON_CHECKSUM_UPDATE);
	return packet->hook == HOOK_XDP ? redirect_frame(packet, rewrite->next_hop.ifindex)
					: redirect_to_output(packet, rewrite->next_hop.ifindex, rewrite->next_hop.flags);
}

/* Makes the flow of the request. Under limits, whether it can have its port is looked at first: what is left to STAGE_ADMIT is
 * counted there, and a rate has no way back. */
static __always_inline enum reason begin_create(const struct scratch *scratch, bool limited)
{
	const struct flow_request *request = &scratch->request;
	enum reason reason = REASON_NONE;

	if (scratch->first.former && !limited && flow_take_over())
		return REASON_NONE;
	former_end(&scratch->first);
	if (limited)
		reason = request_keeps_port(request) && !flow_exists(&request->reply) ? limits_take() : REASON_NO_FREE_PORT;
	return reason == REASON_NONE ? flow_create_plain() : reason;
}

/* Forwards the packet, or if mappings are no longer of `version`, drops it. A flow whose first packet gets nowhere is not kept.
 */
static __always_inline enum verdict begin_forward(struct packet *packet, const struct beginning *beginning,
						  struct rewrite *rewrite)
{
	enum verdict verdict;

	if (READ_ONCE(beginning->current->mappings_version) != beginning->version)
		verdict = packet_refuse(packet, REASON_MAPPING_RACE);
	else
		verdict = first_packet_forward(packet, beginning->scratch, rewrite);
	if (verdict == VERDICT_DROP)
		flow_withdraw(packet->tuple);
	return verdict;
}

static __always_inline void streak_go_on(enum side side, const struct first_packet *first)
{
	struct clock *clock = map_only_element(&clocks);

	if (clock)
		clock->streaks[side] = first->kind.streak < STREAK_EXPECTED ? first->kind.streak + 1 : STREAK_EXPECTED;
}

/* STAGE_BEGIN */
static __always_inline enum verdict begin_at_once(struct packet *packet)
{
	struct beginning beginning;
	struct mapping_match match;
	struct flow_request *request;
	struct mapping_note *mapping;
	struct rewrite rewrite;
	enum reason reason;

	if (!begin_enter(packet, &beginning))
		return begin_leave(packet);
	mapping = mapping_recall(beginning.current, packet->tuple, beginning.version, beginning.now, &match);
	if (!mapping || mapping_translates(match.mapping, packet->tuple) ||
	    !arrival_is_admitted(packet, mapping, beginning.now) || !first_packet_is_ordinary(packet) ||
	    !arrival_leads(packet, match.mapping, &rewrite.next_hop, beginning.now))
		return begin_leave(packet);
	request = &beginning.scratch->request;
	request_set_mapping(request, &match, SIDE_UPLINK);
	beginning.scratch->first.reply_hash = tuple_hash(&request->reply, layout.hash_keys);
	if (bucket_first(beginning.scratch->first.reply_hash) != bucket_first(beginning.scratch->first.hash))
		flow_index_expect(beginning.scratch->first.reply_hash);
	if ((!first_packet_is_first(&beginning.scratch->first) && !first_packet_follows()) ||
	    !request_set_arrival(request, packet))
		return begin_leave(packet);
	first_packet_recall(packet, beginning.scratch);
	reason = begin_create(beginning.scratch, match.mapping->flags & MAPPING_LIMITED);
	if (reason == REASON_NO_FREE_PORT || reason == REASON_FLOW_RACE) /* STAGE_ADMIT looks for another port, or the flow */
		return begin_leave(packet);
	if (reason != REASON_NONE)
		return packet_refuse(packet, reason);
	streak_go_on(packet->side, &beginning.scratch->first);
	return begin_forward(packet, &beginning, &rewrite);
}

/* Whether a mapping with an address of its own is in the way of a container's packet that leaves the host: such an address need
 * not be the host's. A mapping for any address is for the host's. */
static __always_inline bool outbound_is_published(const struct settings *current, const struct tuple *tuple)
{
	struct mapping_match match;

	return current->has_addressed_mappings && mapping_find(current, tuple, &match) && !match.any_address;
}

/* The way of a flow that is masqueraded as `note` says, where another one has been told that less than a second ago; or NULL.
 */
static __always_inline const struct route_note *outbound_way(struct packet *packet, const struct masquerade_note *note,
							     struct rewrite *rewrite, __u64 now)
{
	const struct route_note *way;

	rewrite->source = note->rule.address;
	rewrite->destination = packet->tuple->destination;
	way = route_note_find(packet, rewrite, now);
	return way && next_hop_read(&shared_hop_at(way->hop)->next_hop, &rewrite->next_hop) &&
			       packet_wire_length(packet) <= rewrite->next_hop.mtu
		       ? way
		       : NULL;
}

/* Whether the flow's replies, by their address and port, would be a socket's of this host. */
static __always_inline bool outbound_clashes(struct packet *packet, const struct masquerade_note *note, struct scratch *scratch)
{
	request_set_server(&scratch->request);
	scratch->request.reply.destination = note->rule.address;
	scratch->first.reply_hash = tuple_hash(&scratch->request.reply, layout.hash_keys);
	return host_socket_takes(packet->context, &scratch->request.reply);
}

/* STAGE_OUTBOUND */
static __always_inline enum verdict begin_outbound(struct packet *packet)
{
	const struct masquerade_note *note;
	const struct route_note *way;
	struct beginning beginning;
	struct scratch *scratch;
	struct rewrite rewrite;
	enum reason reason;

	if (!begin_enter(packet, &beginning) || !first_packet_is_ordinary(packet))
		return begin_leave(packet);
	scratch = beginning.scratch;
	note = masquerade_note_find(packet->tuple, packet_ifindex(packet), beginning.version, beginning.now);
	if (!note || outbound_is_published(beginning.current, packet->tuple))
		return begin_leave(packet);
	way = outbound_way(packet, note, &rewrite, beginning.now);
	if (!way || outbound_clashes(packet, note, scratch) || !first_packet_is_first(&scratch->first) ||
	    !request_set_arrival(&scratch->request, packet))
		return begin_leave(packet);
	request_set_masquerade(&scratch->request, &note->rule);
	scratch->first.hop = way->hop;
	scratch->first.refreshed = way->noted;
	first_packet_recall(packet, scratch);
	reason = begin_create(scratch, note->rule.flags & MASQUERADE_LIMITED);
	if (reason == REASON_NO_FREE_PORT || reason == REASON_FLOW_RACE)
		return begin_leave(packet);
	if (refusal_is_reported(packet, reason))
		return packet_report(packet, reason, 0);
	if (reason != REASON_NONE)
		return packet_refuse(packet, reason);
	streak_go_on(packet->side, &scratch->first);
	return begin_forward(packet, &beginning, &rewrite);
}

#endif
