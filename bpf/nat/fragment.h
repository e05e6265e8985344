/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Later fragments find their datagram's ports in a note that the first one leaves. One that comes before its first waits for it
 * in a slot; the first then has itself and those that wait come in once more, in order (docs/decisions/0012-fragments.md).
 *
 * The key of the packet at hand is in the scratch, where each function finds it. */
#ifndef FASTNAT_NAT_FRAGMENT_H
#define FASTNAT_NAT_FRAGMENT_H

#include "flow_index.h"

/* How long fragments of a datagram may be apart: what Linux takes for reassembly, ns. RFC 8200, 4.5 has 60 s. */
#define FRAGMENT_LIFETIME_IPV4 (30ULL * 1000 * 1000 * 1000)
#define FRAGMENT_LIFETIME_IPV6 (60ULL * 1000 * 1000 * 1000)

enum recall {
	RECALL_OURS,    /* the ports are in the scratch */
	RECALL_FOREIGN, /* the first fragment went up the stack */
	RECALL_WAITING, /* the first has not come; the fragment is kept for it */
	RECALL_NO_ROOM, /* the first has not come, and the fragment cannot be kept */
	RECALL_TAKEN,   /* the first has come meanwhile, and comes in again with this one */
};

static __always_inline bool fragment_is_outlived(const struct fragment_key *key, __u64 since)
{
	__u64 lifetime = address_is_ipv4(&key->source) ? FRAGMENT_LIFETIME_IPV4 : FRAGMENT_LIFETIME_IPV6;

	return time_now() - since > lifetime;
}

static __always_inline bool fragment_key_equal(const struct fragment_key *left, const struct fragment_key *right)
{
	const __u64 *a = (const void *)left, *b = (const void *)right;

	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]));
}

/* Lets the fragments that follow be known. Full: the note used least lately goes. */
static __always_inline void fragment_note(struct scratch *scratch, const struct tuple *tuple, bool is_foreign)
{
	scratch->fragment_note.noted = time_now();
	scratch->fragment_note.source_port = tuple->source_port;
	scratch->fragment_note.destination_port = tuple->destination_port;
	scratch->fragment_note.is_foreign = is_foreign;
	bpf_map_update_elem(&fragment_notes, &scratch->fragment_key, &scratch->fragment_note, BPF_ANY);
}

/* Copies the note, if there is one, into the scratch. */
static __always_inline bool fragment_note_find(struct scratch *scratch)
{
	struct fragment_note *note = bpf_map_lookup_elem(&fragment_notes, &scratch->fragment_key);

	if (!note)
		return false;
	scratch->fragment_note = *note;
	return !fragment_is_outlived(&scratch->fragment_key, scratch->fragment_note.noted);
}

static __always_inline struct fragment_queue *fragment_queue_find(struct scratch *scratch)
{
	struct fragment_queue *queue = bpf_map_lookup_elem(&fragment_queues, &scratch->fragment_key);

	if (queue && !fragment_is_outlived(&scratch->fragment_key, queue->begun))
		return queue;
	__builtin_memset(&scratch->fragment_queue, 0, sizeof(scratch->fragment_queue));
	scratch->fragment_queue.begun = time_now();
	/* Another CPU may have been faster: then its queue is the one. */
	bpf_map_update_elem(&fragment_queues, &scratch->fragment_key, &scratch->fragment_queue, queue ? BPF_ANY : BPF_NOEXIST);
	return bpf_map_lookup_elem(&fragment_queues, &scratch->fragment_key);
}

static __always_inline bool fragment_slot_turn(struct fragment_slot *slot, __u32 from, __u32 to)
{
	return __sync_val_compare_and_swap(&slot->state, from, to) == from;
}

/* A slot to write, or NULL. The slots are a ring: under a flood each fragment waits as long as it takes to go round. */
static __always_inline struct fragment_slot *fragment_slot_claim(__u32 *number)
{
	__u64 *cursor = map_only_element(&fragment_cursor);
	struct fragment_slot *slot;

	if (!cursor)
		return NULL;
	*number = __sync_fetch_and_add(cursor, 1) & (FRAGMENT_SLOTS - 1);
	slot = bpf_map_lookup_elem(&fragment_slots, number);
	if (slot && (fragment_slot_turn(slot, FRAGMENT_SLOT_FREE, FRAGMENT_SLOT_BUSY) ||
		     fragment_slot_turn(slot, FRAGMENT_SLOT_FILLED, FRAGMENT_SLOT_BUSY)))
		return slot;
	return NULL;
}

/* The fragment of this datagram in a slot, to read; NULL when somebody else has it, or has overwritten it. */
static __always_inline struct fragment_slot *fragment_slot_take(const struct scratch *scratch, __u32 number)
{
	struct fragment_slot *slot = bpf_map_lookup_elem(&fragment_slots, &number);

	if (!slot || !fragment_slot_turn(slot, FRAGMENT_SLOT_FILLED, FRAGMENT_SLOT_BUSY))
		return NULL;
	if (fragment_key_equal(&slot->key, &scratch->fragment_key))
		return slot;
	__sync_lock_test_and_set(&slot->state, FRAGMENT_SLOT_FILLED);
	return NULL;
}

static __always_inline void fragment_slot_free(struct fragment_slot *slot)
{
	__sync_lock_test_and_set(&slot->state, FRAGMENT_SLOT_FREE);
}

/* Keeps the frame. The slot's number, or -1. */
static __always_inline int fragment_keep(struct __sk_buff *skb, struct scratch *scratch)
{
	struct fragment_queue *queue;
	struct fragment_slot *slot;
	__u32 length = skb->len, number, place;

	if (!length_is_within(&length, ETH_HLEN, FRAGMENT_SLOT_BYTES))
		return -1;
	queue = fragment_queue_find(scratch);
	if (!queue)
		return -1;
	place = __sync_fetch_and_add(&queue->count, 1);
	if (place >= FRAGMENT_QUEUE_SLOTS)
		return -1;
	slot = fragment_slot_claim(&number);
	if (!slot)
		return -1;
	slot->key = scratch->fragment_key;
	slot->length = length;
	if (bpf_skb_load_bytes(skb, 0, slot->frame, length)) {
		fragment_slot_free(slot);
		return -1;
	}
	queue->slots[place] = number;
	__sync_lock_test_and_set(&slot->state, FRAGMENT_SLOT_FILLED);
	return number;
}

/* What a later fragment is part of. It is kept first, then its note looked for again: the first fragment notes, then looks for
 * those that wait. So one of the two, on whatever CPUs, sees the other. */
__noinline int fragment_recall(struct __sk_buff *skb)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct fragment_slot *slot;
	int number;

	if (!scratch)
		return RECALL_NO_ROOM;
	if (!fragment_note_find(scratch)) {
		number = fragment_keep(skb, scratch);
		if (!fragment_note_find(scratch))
			return number < 0 ? RECALL_NO_ROOM : RECALL_WAITING;
		slot = number < 0 ? NULL : fragment_slot_take(scratch, number);
		if (slot)
			fragment_slot_free(slot);
		else if (number >= 0)
			return RECALL_TAKEN;
	}
	return scratch->fragment_note.is_foreign ? RECALL_FOREIGN : RECALL_OURS;
}

/* Takes the queue of the first fragment's datagram into the scratch; false: nothing waits for it. */
static __always_inline bool fragment_queue_take(struct scratch *scratch)
{
	struct fragment_queue *queue = bpf_map_lookup_elem(&fragment_queues, &scratch->fragment_key);

	if (!queue)
		return false;
	__sync_fetch_and_or(&queue->count, FRAGMENT_QUEUE_CLOSED); /* full barrier */
	scratch->fragment_queue = *queue;
	return !bpf_map_delete_elem(&fragment_queues, &scratch->fragment_key) &&
	       !fragment_is_outlived(&scratch->fragment_key, scratch->fragment_queue.begun);
}

static __always_inline void fragment_queue_drop(struct scratch *scratch)
{
	bpf_map_delete_elem(&fragment_queues, &scratch->fragment_key);
}

/* Lets a fragment that waits come in again, in the socket buffer of the first. */
__noinline int fragment_send_again(struct __sk_buff *skb, __u32 number)
{
	struct scratch *scratch = map_only_element(&scratches);
	struct fragment_slot *slot = scratch ? fragment_slot_take(scratch, number) : NULL;
	__u32 length;

	if (!slot)
		return -1;
	length = slot->length;
	if (length_is_within(&length, ETH_HLEN, FRAGMENT_SLOT_BYTES) && !bpf_skb_change_tail(skb, length, 0) &&
	    !bpf_skb_store_bytes(skb, 0, slot->frame, length, 0))
		bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
	fragment_slot_free(slot);
	return 0;
}

/* When others wait for this first fragment: lets it and then them come in again, where they came in. Now that it has left its
 * note, and nobody waits for it, each goes its way. false: nothing waits, the packet is as it was. */
__noinline int fragment_release(struct __sk_buff *skb)
{
	struct scratch *scratch = map_only_element(&scratches);
	__u32 count;

	if (!scratch || !fragment_queue_take(scratch))
		return false;
	bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
	if (tc_checksum_forget(skb))
		return true;
	count = scratch->fragment_queue.count & ~FRAGMENT_QUEUE_CLOSED;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < FRAGMENT_QUEUE_SLOTS && i < count; i++)
		fragment_send_again(skb, scratch->fragment_queue.slots[i]);
	return true;
}

#endif
