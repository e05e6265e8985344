/*
 * The kernel's netlink headers, for the Netlink target. libmnl brings <linux/netlink.h> itself.
 */
#ifndef FASTNAT_NETLINK_HEADERS_H
#define FASTNAT_NETLINK_HEADERS_H

#include <linux/genetlink.h>
#include <linux/if_link.h>
#include <linux/inet_diag.h>
#include <linux/neighbour.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <net/if_arp.h>

/*
 * The generic netlink family "netdev" came with Linux 6.3; the headers of Debian 12 are of 6.1. Without it, the part
 * that we use, names, shapes and numbers as in include/uapi/linux/netdev.h of v6.3 (generated there from
 * Documentation/netlink/specs/netdev.yaml).
 */
#if __has_include(<linux/netdev.h>)
#include <linux/netdev.h>
#else
#define NETDEV_FAMILY_NAME "netdev"
#define NETDEV_FAMILY_VERSION 1

enum netdev_xdp_act {
	NETDEV_XDP_ACT_BASIC = 1,
	NETDEV_XDP_ACT_REDIRECT = 2,
	NETDEV_XDP_ACT_NDO_XMIT = 4,
	NETDEV_XDP_ACT_XSK_ZEROCOPY = 8,
	NETDEV_XDP_ACT_HW_OFFLOAD = 16,
	NETDEV_XDP_ACT_RX_SG = 32,
	NETDEV_XDP_ACT_NDO_XMIT_SG = 64,
};

enum {
	NETDEV_A_DEV_IFINDEX = 1,
	NETDEV_A_DEV_PAD,
	NETDEV_A_DEV_XDP_FEATURES,
};

enum {
	NETDEV_CMD_DEV_GET = 1,
};
#endif

/* As in <linux/if_bridge.h>, which cannot be imported: it defines struct in6_addr, as <netinet/in.h> does. */
#ifndef BR_STATE_FORWARDING
#define BR_STATE_FORWARDING 3
#endif

#endif
