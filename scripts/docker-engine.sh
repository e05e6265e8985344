#!/usr/bin/env bash
# Unpacks Debian's Docker and a static busybox, without installing them. usage: docker-engine.sh DIRECTORY
#
# Installed, the package would start a daemon, which changes the machine's packet filter. The tests start one in namespaces.
set -euo pipefail

target=$(realpath -m "$1")
if [[ -x $target/usr/sbin/dockerd && -x $target/bin/busybox ]]; then exit 0; fi
if [[ ${SETUP:-} == no ]]; then
	echo "docker-engine: not unpacked, as SETUP=no asks; tests with a real dockerd are skipped" >&2
	exit 0
fi

packages=(docker.io containerd runc tini busybox-static)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

printf '  %-7s %s\n' UNPACK "${packages[*]}"
cd "$work"
mkdir root
if ! apt-get download -qq "${packages[@]}" 2>errors; then
	apt-get update -qq
	apt-get download -qq "${packages[@]}" 2>errors || {
		echo "docker-engine: $(cat errors)" >&2
		exit 1
	}
fi
for package in *.deb; do dpkg-deb --extract "$package" root; done
mkdir -p "$(dirname "$target")"
rm -rf "$target"
mv root "$target"
