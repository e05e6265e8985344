#!/usr/bin/env bash
# Installs the Debian packages that are missing. usage: setup.sh build|test|lint...
#
# Silent, and content without root, when nothing is missing.
set -euo pipefail

if [[ ${SETUP:-} == no ]]; then exit 0; fi

# Real CNI plugins; and what podman needs, which itself is taken out of its package (Makefile).
cni="containernetworking-plugins conmon crun golang-github-containers-common libgpgme11 libsubid4 libdevmapper1.02.1 libseccomp2"

# What each needs. git and ca-certificates: SwiftPM fetches a dependency.
declare -A packages=(
	[build]="clang libbpf-dev libelf-dev zlib1g-dev bpftool pkg-config libmnl-dev make gcc libc6-dev git ca-certificates"
	[test]="iproute2 iptables nftables curl jq iperf3 tcpdump socat ethtool conntrack python3 iputils-ping procps util-linux chromium libdevmapper1.02.1 libsystemd0 $cni"
	[lint]="clang-format shellcheck"
	[bench]="iproute2 iptables nftables iperf3 ethtool conntrack util-linux"
)

fail() {
	printf 'setup: %s\n' "$@" >&2
	exit 1
}

wanted=()
for group in "$@"; do
	[[ -n ${packages[$group]:-} ]] || fail "no such group of packages: $group"
	read -ra names <<<"${packages[$group]}"
	wanted+=("${names[@]}")
done

swift=${SWIFT:-swift}
command -v "$swift" >/dev/null || fail "$swift is not in the PATH (sudo changes it): fastnat needs Swift 6.1 or later." \
	"Install it from https://www.swift.org/install/linux, or give its place: make SWIFT=/where/bin/swift"

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	fail "this is no Debian: install the equivalents of these packages, then run make with SETUP=no:" "${wanted[*]}"
fi

installed=$(dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null |
	sed -n 's/^installed //p' || true)
missing=()
for package in "${wanted[@]}"; do
	grep -qxF -- "$package" <<<"$installed" || missing+=("$package")
done
if ((${#missing[@]} == 0)); then exit 0; fi

((EUID == 0)) || fail "these packages are missing, and installing them takes root: ${missing[*]}"
printf '  %-7s %s\n' APT "${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
output=$(apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "${missing[@]}" 2>&1) ||
	fail "$output"
