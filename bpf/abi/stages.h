/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The programs that go on with a packet where the attached ones leave it: one list for their numbers and functions. */
#ifndef FASTNAT_ABI_STAGES_H
#define FASTNAT_ABI_STAGES_H

/* X(identifier, program) */
#define FASTNAT_STAGES(X) \
	X(BEGIN, fastnat_begin)       /* packets of no known flow on an uplink: begins it where there is nothing to ask */ \
	X(KNOWN, fastnat_uplink)      /* packets that STAGE_BEGIN was given before their flow was looked for */ \
	X(OUTBOUND, fastnat_outbound) /* as BEGIN, from containers, where masquerades are */ \
	X(KNOWN_OUTBOUND, fastnat_container) /* as KNOWN, of STAGE_OUTBOUND */ \
	/* From here on they take notes of the packet (skb->cb): */ \
	X(ADMIT, fastnat_admit)         /* packets of no known flow: begins it, where they may */ \
	X(ROUTE, fastnat_route)         /* known flows, new ones among them, that need a route */ \
	X(TRANSLATE, fastnat_translate) /* flows whose two sides are of different families, and ICMP errors about them */ \
	X(ECHO, fastnat_echo)           /* ICMP echo requests and replies, of whatever flow or of none */ \
	X(ICMP, fastnat_icmp)           /* ICMP errors about packets of flows */ \
	X(REPORT, fastnat_report)       /* packets that are dropped, and their sender told */ \
	X(FRAGMENT, fastnat_fragment)   /* fragments, and packets that must become some */ \
	X(CUT, fastnat_cut)             /* translated packets that leave in fragments */ \
	X(RESET, fastnat_reset)         /* TCP flows that were cut: RSTs to both ends */

#define FASTNAT_STAGE_ENUM(identifier, program) STAGE_##identifier,

enum stage {
	FASTNAT_STAGES(FASTNAT_STAGE_ENUM) STAGE_COUNT,
	STAGE_ATTACHED = STAGE_COUNT, /* an attached program: known flows whose next hop is fresh */
};

#endif
