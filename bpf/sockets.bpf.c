/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The programs for sockets of the host itself, attached to the root of the cgroup hierarchy. An object of its own: a kernel
 * that lacks what they need still takes the others. What they do is in socket/translate.h. */
#include "socket/translate.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

SEC("cgroup/connect4")
int fastnat_connect4(struct bpf_sock_addr *ctx)
{
	return socket_connect(ctx, true);
}

SEC("cgroup/connect6")
int fastnat_connect6(struct bpf_sock_addr *ctx)
{
	return socket_connect(ctx, false);
}

SEC("cgroup/sendmsg4")
int fastnat_sendmsg4(struct bpf_sock_addr *ctx)
{
	return socket_send(ctx, true);
}

SEC("cgroup/sendmsg6")
int fastnat_sendmsg6(struct bpf_sock_addr *ctx)
{
	return socket_send(ctx, false);
}

SEC("cgroup/recvmsg4")
int fastnat_recvmsg4(struct bpf_sock_addr *ctx)
{
	return socket_name_peer(ctx, true);
}

SEC("cgroup/recvmsg6")
int fastnat_recvmsg6(struct bpf_sock_addr *ctx)
{
	return socket_name_peer(ctx, false);
}

SEC("cgroup/getpeername4")
int fastnat_getpeername4(struct bpf_sock_addr *ctx)
{
	return socket_name_peer(ctx, true);
}

SEC("cgroup/getpeername6")
int fastnat_getpeername6(struct bpf_sock_addr *ctx)
{
	return socket_name_peer(ctx, false);
}
