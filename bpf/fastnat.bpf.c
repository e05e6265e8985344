/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The programs that the loader attaches or runs. What they do is in pipeline.h. */
#include "pipeline.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Those that begin flows at once know all that they need; attached programs, to whom they give packets back, as well. */
static __always_inline bool stage_takes_notes(enum stage stage)
{
	return stage >= STAGE_ADMIT;
}

static __always_inline int tc_finish(struct packet *packet, enum verdict verdict)
{
	struct __sk_buff *skb = packet->context;

	if (verdict == VERDICT_CONTINUE) {
		if (stage_takes_notes(packet->stage)) {
			skb->cb[TC_NOTE_SIDE] = packet->side;
			skb->cb[TC_NOTE_BEGUN] = packet->begun;
			skb->cb[TC_NOTE_RACES] = packet->races;
		}
		bpf_tail_call(packet->context, &stages, packet->stage);
		return TC_NEXT; /* the loader enters all stages before it attaches: never */
	}
	if (packet->reason != REASON_NONE)
		reason_count(packet->reason);
	return tc_action(packet, verdict);
}

static __always_inline int tc_run(struct packet *packet, struct __sk_buff *skb)
{
	struct tuple tuple;

	packet->tuple = &tuple;
	tc_packet_init(packet, skb);
	return tc_finish(packet, pipeline(packet));
}

static __always_inline int tc_run_attached(struct __sk_buff *skb, enum side side)
{
	struct packet packet = {.side = side, .stage = STAGE_ATTACHED};

	return tc_run(&packet, skb);
}

static __always_inline int tc_run_stage(struct __sk_buff *skb, enum stage stage)
{
	struct packet packet = {
		.side = skb->cb[TC_NOTE_SIDE],
		.begun = skb->cb[TC_NOTE_BEGUN],
		.races = skb->cb[TC_NOTE_RACES],
		.stage = stage,
	};

	return tc_run(&packet, skb);
}

/* Ingress of an uplink: packets from clients. */
SEC("tc")
int fastnat_uplink(struct __sk_buff *skb)
{
	return tc_run_attached(skb, SIDE_UPLINK);
}

/* Ingress of a device towards containers: their replies. */
SEC("tc")
int fastnat_container(struct __sk_buff *skb)
{
	int action = tc_run_attached(skb, SIDE_CONTAINER);

	if (action == TC_NEXT)
		station_confirm(skb);
	return action;
}

/* Ingress of a port of a bridge: replies of known flows, before the bridge sees them. What it passes, fastnat_container gets
 * (and counts) when it leaves the bridge for the host. */
SEC("tc")
int fastnat_port(struct __sk_buff *skb)
{
	struct tuple tuple;
	struct packet packet = {.side = SIDE_PORT, .stage = STAGE_ATTACHED, .tuple = &tuple};
	enum verdict verdict;

	if (!port_frame_is_for_host(skb))
		return TC_NEXT;
	tc_packet_init(&packet, skb);
	verdict = pipeline(&packet);
	if (verdict == VERDICT_DROP)
		reason_count(packet.reason);
	return tc_action(&packet, verdict);
}

/* Egress of an uplink that containers are masqueraded on. What is forwarded, by us or by the kernel, has come in somewhere. */
SEC("tc")
int fastnat_host(struct __sk_buff *skb)
{
	return skb->ingress_ifindex ? TC_NEXT : tc_run_attached(skb, SIDE_HOST);
}

/* What goes on with their packets (abi/stages.h). */
SEC("tc")
int fastnat_begin(struct __sk_buff *skb)
{
	struct packet packet = {.side = SIDE_UPLINK, .stage = STAGE_BEGIN, .context = skb, .hook = HOOK_TC};

	tc_packet_fetch(&packet); /* fastnat_uplink has pulled its headers */
	return tc_finish(&packet, begin_at_once(&packet));
}

/* The same on their way out of a container. */
SEC("tc")
int fastnat_outbound(struct __sk_buff *skb)
{
	struct packet packet = {.side = SIDE_CONTAINER, .stage = STAGE_OUTBOUND, .context = skb, .hook = HOOK_TC};

	tc_packet_fetch(&packet);
	return tc_finish(&packet, begin_outbound(&packet));
}

SEC("tc")
int fastnat_admit(struct __sk_buff *skb)
{
	if (skb->cb[TC_NOTE_SIDE] == SIDE_CONTAINER)
		station_confirm(skb);
	return tc_run_stage(skb, STAGE_ADMIT);
}

SEC("tc")
int fastnat_route(struct __sk_buff *skb)
{
	if (skb->cb[TC_NOTE_SIDE] == SIDE_CONTAINER)
		station_confirm(skb);
	return tc_run_stage(skb, STAGE_ROUTE);
}

SEC("tc")
int fastnat_translate(struct __sk_buff *skb)
{
	return tc_run_stage(skb, STAGE_TRANSLATE);
}

SEC("tc")
int fastnat_echo(struct __sk_buff *skb)
{
	return tc_run_stage(skb, STAGE_ECHO);
}

SEC("tc")
int fastnat_icmp(struct __sk_buff *skb)
{
	return tc_run_stage(skb, STAGE_ICMP);
}

SEC("tc")
int fastnat_report(struct __sk_buff *skb)
{
	return tc_run_stage(skb, STAGE_REPORT);
}

SEC("tc")
int fastnat_fragment(struct __sk_buff *skb)
{
	return tc_run_stage(skb, STAGE_FRAGMENT);
}

/* Cuts a translated packet that is too long for its way. */
SEC("tc")
int fastnat_cut(struct __sk_buff *skb)
{
	enum reason reason = REASON_NONE;
	int action = cut_run(skb, &reason);

	if (reason == REASON_NONE)
		return action;
	reason_count(reason);
	return TC_ACT_SHOT;
}

SEC("tc")
int fastnat_reset(struct __sk_buff *skb)
{
	return tc_run_stage(skb, STAGE_RESET);
}

static __always_inline int xdp_go_on(struct packet *packet, struct xdp_md *frame, enum verdict verdict)
{
	if (verdict == VERDICT_CONTINUE)
		bpf_tail_call(frame, &xdp_stages, packet->stage);
	if (verdict == VERDICT_DROP)
		reason_count(packet->reason);
	return xdp_action(packet, verdict);
}

/* An uplink before there is a socket buffer: known flows. What it passes, fastnat_uplink sees (and counts). */
SEC("xdp.frags")
int fastnat_xdp(struct xdp_md *frame)
{
	struct tuple tuple;
	struct packet packet = {.side = SIDE_UPLINK, .stage = STAGE_ATTACHED, .tuple = &tuple};

	xdp_packet_init(&packet, frame);
	return xdp_go_on(&packet, frame, pipeline(&packet));
}

/* Goes on with packets of no known flow, where they may begin one. */
SEC("xdp.frags")
int fastnat_xdp_begin(struct xdp_md *frame)
{
	struct packet packet = {.side = SIDE_UPLINK, .stage = STAGE_BEGIN};

	xdp_packet_init(&packet, frame);
	return xdp_go_on(&packet, frame, begin_at_once(&packet));
}

/* Run once by the loader: starts the sweep of idle flows. Nothing is attached. */
SEC("tc")
int fastnat_arm_sweep(struct __sk_buff *skb)
{
	return sweep_arm();
}

/* Run by the loader: ends flows. */
SEC("syscall")
int fastnat_flush(struct flush_request *request)
{
	flush(request);
	return 0;
}
