/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Whether an address is the host's own. No helper tells it to a socket program (bpf_fib_lookup is for packets), and a copy of
 * the addresses would be stale when one is added: so the kernel's own lists are read (docs/decisions/0010). */
#ifndef FASTNAT_SOCKET_LOCAL_ADDRESS_H
#define FASTNAT_SOCKET_LOCAL_ADDRESS_H

#include "../nat/mapping.h"

#include <bpf/bpf_core_read.h>

#define KERNEL_LAYOUT __attribute__((preserve_access_index))

/* What is read of the kernel's structures. libbpf finds the place of each field in the running kernel (CO-RE). */
struct list_head {
	struct list_head *next;
} KERNEL_LAYOUT;

struct in_ifaddr {
	struct in_ifaddr *ifa_next;
	__be32 ifa_local;
} KERNEL_LAYOUT;

struct in_device {
	struct in_ifaddr *ifa_list;
} KERNEL_LAYOUT;

struct inet6_ifaddr {
	struct in6_addr addr;
	struct list_head if_list;
} KERNEL_LAYOUT;

struct inet6_dev {
	struct list_head addr_list;
} KERNEL_LAYOUT;

struct net_device {
	struct list_head dev_list;
	struct in_device *ip_ptr;
	struct inet6_dev *ip6_ptr;
} KERNEL_LAYOUT;

struct net {
	struct list_head dev_base_head;
	__u64 net_cookie;
} KERNEL_LAYOUT;

struct nsproxy {
	struct net *net_ns;
} KERNEL_LAYOUT;

struct task_struct {
	struct nsproxy *nsproxy;
} KERNEL_LAYOUT;

/* Interfaces and addresses that a search goes through at most. */
#define LOCAL_ADDRESS_STEPS (1 << 16)

/* The structure that holds `member` at `pointer`. */
#define OWNER(pointer, type, member) ((struct type *)((void *)(pointer)-bpf_core_field_offset(((struct type *)0)->member)))

/* The cookie of the network namespace that fastnat was loaded in; written by the loader. */
const volatile __u64 namespace_cookie SEC(".rodata.namespace");

#define MAX_LOCALITY_ANSWERS (1 << 12)
#define LOCALITY_ANSWER_LIFETIME 1000000000ULL /* ns */

struct locality_answer {
	__u64 given; /* CLOCK_MONOTONIC, ns */
	__u64 is_local;
};

/* address → whether it is the host's own. Written by connect and sendmsg to published ports; full: the least recently used
 * goes. Made anew by each load. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_LOCALITY_ANSWERS);
	__type(key, struct address);
	__type(value, struct locality_answer);
} locality_answers SEC(".maps");

/* A walk over the interfaces of the network namespace and the addresses of each. The pointers are the kernel's: programs run in
 * an RCU read section, so what they lead to is not freed meanwhile. */
struct address_search {
	struct address wanted;
	struct list_head *devices; /* head of the list */
	struct list_head *device;  /* the next one's link in it */
	void *address;             /* IPv4: the next struct in_ifaddr; IPv6: its link in the list */
	struct list_head *addresses;
	bool is_found;
};

/* The interface that comes next, or NULL at the end of the list. */
static __always_inline struct net_device *search_next_device(struct address_search *search)
{
	struct list_head *link = search->device;

	if (!link || link == search->devices)
		return NULL;
	search->device = BPF_CORE_READ(link, next);
	return OWNER(link, net_device, dev_list);
}

/* To the addresses of the next interface; false: there is none. */
static __always_inline bool search_enter_ipv4(struct address_search *search)
{
	struct net_device *device = search_next_device(search);

	if (!device)
		return false;
	search->address = BPF_CORE_READ(device, ip_ptr, ifa_list);
	return true;
}

static __always_inline bool search_enter_ipv6(struct address_search *search)
{
	struct net_device *device = search_next_device(search);
	struct inet6_dev *ipv6;

	if (!device)
		return false;
	ipv6 = BPF_CORE_READ(device, ip6_ptr);
	search->addresses = ipv6 ? (void *)ipv6 + bpf_core_field_offset(ipv6->addr_list) : NULL;
	search->address = ipv6 ? BPF_CORE_READ(ipv6, addr_list.next) : NULL;
	return true;
}

/* One step of bpf_loop: an address is compared, or the next interface entered. 1 ends the loop. */
static long search_ipv4(__u32 index, struct address_search *search)
{
	struct in_ifaddr *address = search->address;

	if (!address)
		return !search_enter_ipv4(search);
	search->is_found = BPF_CORE_READ(address, ifa_local) == search->wanted.words[3];
	search->address = BPF_CORE_READ(address, ifa_next);
	return search->is_found;
}

static long search_ipv6(__u32 index, struct address_search *search)
{
	struct list_head *link = search->address;
	struct address found = {};

	if (!link || link == search->addresses)
		return !search_enter_ipv6(search);
	bpf_core_read(&found, sizeof(found), &OWNER(link, inet6_ifaddr, if_list)->addr);
	search->is_found = address_equal(&found, &search->wanted);
	search->address = BPF_CORE_READ(link, next);
	return search->is_found;
}

/* The network namespace that fastnat was loaded in, or NULL. It is found through the process: one that has moved to another
 * since it made its socket asks in vain. */
static __always_inline struct net *namespace_find(void)
{
	struct net *net = bpf_get_current_task_btf()->nsproxy->net_ns;

	return net && net->net_cookie == namespace_cookie ? net : NULL;
}

/* Whether an interface of the host has the address. */
static __always_inline bool address_search(struct net *net, const struct address *address)
{
	struct address_search search = {};

	search.wanted = *address;
	search.devices = (void *)net + bpf_core_field_offset(net->dev_base_head);
	search.device = BPF_CORE_READ(net, dev_base_head.next);
	/* The first interface is entered here: kernels before 6.7 verify one step alone, from what is known before it, and
	 * leave out code that this step cannot reach. */
	if (address_is_ipv4(address)) {
		if (search_enter_ipv4(&search))
			bpf_loop(LOCAL_ADDRESS_STEPS, search_ipv4, &search, 0);
	} else if (search_enter_ipv6(&search)) {
		bpf_loop(LOCAL_ADDRESS_STEPS, search_ipv6, &search, 0);
	}
	return search.is_found;
}

/* The same, as of a second ago at most: a host may have thousands of interfaces. */
static __noinline bool address_is_local(const struct address *address)
{
	struct locality_answer *known = bpf_map_lookup_elem(&locality_answers, address), answer = {};
	__u64 now = bpf_ktime_get_coarse_ns();
	struct net *net;

	if (known && now - known->given < LOCALITY_ANSWER_LIFETIME)
		return known->is_local;
	net = namespace_find();
	if (!net)
		return false;
	answer.given = now;
	answer.is_local = address_search(net, address);
	bpf_map_update_elem(&locality_answers, address, &answer, BPF_ANY);
	return answer.is_local;
}

#endif
