#!/usr/bin/env bash
# Boots Debian's kernel under qemu (software emulation) and publishes a port there: what fastnat needs is in it, or not.
# Usage: scripts/kernel-check.sh [PACKAGE]   default: the newest linux-image of this Debian's cloud flavour
# Needs: qemu-system-x86, busybox-static, cpio, kmod; the binary from `make build`. Only for x86-64.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
binary=${FASTNAT_BINARY:-$root/.build/release/fastnat}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

package=${1:-$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ {print $2; exit}')}
echo "kernel    $package"
(cd "$work" && apt-get download -qq "$package" && dpkg -x ./*.deb kernel) 2>/dev/null
version=$(basename "$work"/kernel/lib/modules/*)
image=$work/kernel/boot/vmlinuz-$version

# The initial file system: busybox, iproute2, fastnat, the libraries they need, and the modules for a veth pair.
fs=$work/fs
mkdir -p "$fs"/{bin,sbin,proc,sys,dev,run,tmp,lib/modules}
cp /bin/busybox "$fs/bin/"
copy() { # a program with its libraries
	cp "$1" "$fs/sbin/" # before busybox in PATH, which has an ip of its own
	ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
		mkdir -p "$fs$(dirname "$library")"
		cp -n "$library" "$fs$library"
	done
}
copy "$binary"
copy "$(command -v ip)"
copy "$(command -v bash)" # its /dev/tcp is the client: a static busybox cannot look up addresses
depmod -b "$work/kernel" "$version"
for module in veth bridge sch_ingress cls_bpf tcp_diag udp_diag; do
	modprobe -d "$work/kernel" -S "$version" --show-depends "$module" | awk '/^insmod/ {print $2}' |
		while read -r file; do
			cp "$file" "$fs/lib/modules/"
			basename "$file" >>"$fs/lib/modules/order.all"
		done
done
awk '!seen[$0]++' "$fs/lib/modules/order.all" >"$fs/lib/modules/order"

cat >"$fs/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/sbin:/bin
alias ip=/sbin/ip # busybox would run its own
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs run /run; mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /run/netns
for module in $(cat /lib/modules/order); do insmod /lib/modules/$module; done
echo "running $(uname -r)"
fail() { echo "FAILED: $1"; poweroff -f; }
for name in client container; do ip netns add $name || fail netns; done
ip link set lo up
ip link add eth0 type veth peer name eth0 netns client
ip link add veth0 type veth peer name eth0 netns container
ip addr add 192.0.2.1/24 dev eth0; ip addr add 172.20.0.1/24 dev veth0
ip -n client addr add 192.0.2.2/24 dev eth0; ip -n container addr add 172.20.0.2/24 dev eth0
for side in client container; do ip -n $side link set eth0 up; done
ip link set eth0 up; ip link set veth0 up
ip -n container route add default via 172.20.0.1
ip addr add fd00:1::1/64 dev eth0 nodad; ip addr add fd00:20::1/64 dev veth0 nodad
ip -n container addr add fd00:20::2/64 dev eth0 nodad
echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
mkdir -p /tmp/www; echo published >/tmp/www/index.html
ip netns exec container httpd -p 80 -h /tmp/www
for mode in tc xdp; do
	fastnat load --iface eth0 --mode $mode -v || fail "load --mode $mode"
	fastnat map add 8080 172.20.0.2:80 || fail "map add"
	answer=$(ip netns exec client bash -c "exec 3<>/dev/tcp/192.0.2.1/8080; printf 'GET / HTTP/1.0\r\n\r\n' >&3; cat <&3" | tail -n 1) || { fastnat status; fail "request in mode $mode"; }
	[ "$answer" = published ] || fail "answer in mode $mode"
	fastnat map add '[::]:8081' '[fd00:20::2]:80' || fail "map add for IPv6"
	for server in 127.0.0.1/8080 192.0.2.1/8080 ::1/8080 ::1/8081 fd00:1::1/8081; do # from the host itself
		answer=$(bash -c "exec 3<>/dev/tcp/$server; printf 'GET / HTTP/1.0\r\n\r\n' >&3; cat <&3" | tail -n 1)
		[ "$answer" = published ] || { fastnat status; fail "answer at $server in mode $mode"; }
	done
	fastnat conntrack list; fastnat status | head -12
	fastnat unload || fail unload
	[ -e /run/fastnat ] && fail "left /run/fastnat"
done
echo "PASSED"
poweroff -f
INIT
chmod +x "$fs/init"
(cd "$fs" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd"

timeout 600 qemu-system-x86_64 -accel tcg -cpu max -m 1024 -smp 2 -nographic -no-reboot \
	-kernel "$image" -initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1" | tee "$work/log"
grep -q '^PASSED' "$work/log"
