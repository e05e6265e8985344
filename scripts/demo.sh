#!/usr/bin/env bash
# Publishes a container's port with fastnat in throwaway network namespaces, and calls it: first through a bridge at TC, as
# Docker has it, then through a veth pair at XDP. usage: demo.sh FASTNAT
#
#   client 192.0.2.2 ── eth0 192.0.2.1  host  docker0 172.17.0.1 ── 172.17.0.2 container
#
# The machine's own interfaces are not touched; everything is removed at the end, also after a failure or Ctrl-C.
set -euo pipefail

binary=$(realpath "${1:-.build/release/fastnat}")
PATH=${binary%/*}:$PATH:/usr/sbin:/sbin
suffix=$(printf '%04x%04x' $RANDOM $RANDOM)
client=client-$suffix
host=host-$suffix
container=container-$suffix
server=

say() { printf '\n── %s\n' "$*"; }

fail() {
	printf 'demo: %s\n' "$*" >&2
	exit 1
}

# Runs a command in a namespace, and prints it first.
show() { # client, host or container; a command
	local role=$1
	shift
	printf '%s# %s\n' "$role" "$*"
	ip netns exec "${!role}" "$@"
}

cleanup() {
	local status=$? namespace
	trap '' INT TERM HUP
	if [[ -n $server ]]; then kill "$server" 2>/dev/null || true; fi
	# After an interruption fastnat may still be loaded.
	ip netns exec "$host" fastnat unload >/dev/null 2>&1 || true
	for namespace in "$client" "$host" "$container"; do ip netns del "$namespace" 2>/dev/null || true; done
	exit "$status"
}

# --- the network -------------------------------------------------------------------------------------------------------

build_network() {
	local name
	for name in "$client" "$host" "$container"; do
		ip netns add "$name"
		ip -n "$name" link set lo up
	done
	ip -n "$host" link add eth0 type veth peer name eth0 netns "$client"
	ip -n "$host" link add veth0 type veth peer name eth0 netns "$container"
	ip -n "$host" link add docker0 type bridge
	ip -n "$host" link set veth0 master docker0
	ip -n "$host" address add 192.0.2.1/24 dev eth0
	ip -n "$host" address add 172.17.0.1/16 dev docker0
	ip -n "$client" address add 192.0.2.2/24 dev eth0
	ip -n "$container" address add 172.17.0.2/16 dev eth0
	for name in "$client" "$container"; do ip -n "$name" link set eth0 up; done
	for name in eth0 veth0 docker0; do ip -n "$host" link set "$name" up; done
	ip -n "$container" route add default via 172.17.0.1
	ip netns exec "$host" sysctl -qw net.ipv4.ip_forward=1
	ip netns exec "$container" ethtool -K eth0 gro on
}

# XDP cannot send to a bridge, and to a veth only while GRO is on behind it. The client's offloads are off, because a local
# sender leaves checksums and segmentation to a device that its packets never meet; from a wire they come complete.
replace_bridge() {
	ip -n "$host" link del docker0
	ip -n "$host" address add 172.17.0.1/16 dev veth0
	ip netns exec "$client" ethtool -K eth0 tx off gso off tso off gro off >/dev/null
}

# Tells each client the address that it came from.
start_server() {
	ip netns exec "$container" /usr/bin/python3 -I -c '
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"Hello {self.client_address[0]}, here is the container.\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

http.server.ThreadingHTTPServer(("", 80), Handler).serve_forever()' &
	server=$!
	for _ in {1..100}; do
		if ip netns exec "$host" curl -s -o /dev/null --max-time 1 http://172.17.0.2/; then return; fi
		sleep 0.1
	done
	fail "the server in the container does not start"
}

# --- what is shown -----------------------------------------------------------------------------------------------------

call() {
	local answer
	echo "client# curl http://192.0.2.1:8080/"
	answer=$(ip netns exec "$client" curl -sS --max-time 5 http://192.0.2.1:8080/) || fail "no answer"
	echo "$answer"
	[[ $answer == "Hello 192.0.2.2,"* ]] || fail "the container did not see the client's own address"
}

# The kernel's numbers of all that fastnat has pinned for this namespace: "map 12", "prog 34", "link 56".
#
# The pins are in a directory named by the namespace's cookie (SO_NETNS_COOKIE, 71).
kernel_objects() {
	local cookie directory kind pin
	cookie=$(ip netns exec "$host" /usr/bin/python3 -I -c 'import socket, sys
print(int.from_bytes(socket.socket().getsockopt(socket.SOL_SOCKET, 71, 8), sys.byteorder))')
	directory=/run/fastnat/bpf/$cookie
	for kind in map:maps prog:programs link:links; do
		for pin in "$directory/${kind#*:}"/*; do
			if [[ -f $pin ]]; then bpftool --json "${kind%:*}" show pinned "$pin" | identify "${kind%:*}"; fi
		done
	done | sort -u
}

# The numbers in what bpftool says of one object: its own, and of a link, its program's too.
identify() {
	/usr/bin/python3 -I -c '
import json, sys
what = json.load(sys.stdin)
print(sys.argv[1], what["id"])
if "prog_id" in what: print("prog", what["prog_id"])' "$1"
}

# The kernel frees objects some milliseconds after their last user has gone.
prove_gone() { # kernel_objects
	local kind id left
	for _ in {1..50}; do
		left=0
		while read -r kind id; do
			if bpftool "$kind" show id "$id" &>/dev/null; then left=$((left + 1)); fi
		done <<<"$1"
		if ((left == 0)); then break; fi
		sleep 0.1
	done
	((left == 0)) || fail "$left of fastnat's BPF objects are left"
	[[ -z $(kernel_objects) ]] || fail "pins are left"
	ip netns exec "$host" tc qdisc show dev eth0 | grep -q clsact && fail "a queueing discipline is left"
	ip -n "$host" link show dev eth0 | grep -q xdp && fail "an XDP program is left"
	echo "Gone: $(grep -c '^prog' <<<"$1") programs, $(grep -c '^map' <<<"$1") maps," \
		"$(grep -c '^link' <<<"$1") links. No pin, queueing discipline or XDP program is left."
}

publish_and_call() { # the mode
	local objects
	show host fastnat load --iface eth0 --mode "$1"
	show host fastnat map add 8080 172.17.0.2:80
	call
	call
	show host fastnat map list
	show host fastnat conntrack list
	show host fastnat status
	objects=$(kernel_objects)
	[[ $(grep -c '^prog' <<<"$objects") -gt 1 && $(grep -c '^map' <<<"$objects") -gt 1 ]] ||
		fail "fastnat has not pinned its programs and maps in /run/fastnat/bpf"
	if [[ $1 == xdp ]]; then prove_xdp; fi
	say "And away with it."
	show host fastnat unload
	prove_gone "$objects"
}

# A veth device counts what its XDP program has sent elsewhere.
prove_xdp() {
	local packets
	packets=$(ip netns exec "$host" ethtool -S eth0 | awk '/xdp_redirect:/ { sum += $2 } END { print sum + 0 }')
	((packets > 0)) || fail "no packet was forwarded at XDP"
	say "$packets of the client's packets went to the container at XDP, before the kernel made a socket buffer of them."
}

((EUID == 0)) || fail "network namespaces and BPF take root"
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

say "Three network namespaces: a client, a host, and a container on the host's bridge docker0 (…-$suffix)."
build_network
say "An HTTP server starts in the container, on 172.17.0.2:80. The host publishes nothing yet:"
start_server
show client curl -sS --max-time 5 http://192.0.2.1:8080/ && fail "something answers already"

say "fastnat publishes it on port 8080, at TC."
publish_and_call tc

replace_bridge
say "Now the container is on a veth pair of its own, and fastnat publishes it at XDP."
publish_and_call xdp

say "Done; the namespaces are removed."
