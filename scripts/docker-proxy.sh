#!/usr/bin/env bash
# Takes docker-proxy out of Debian's package docker.io, without installing that. usage: docker-proxy.sh FILE
#
# Without it the benchmark lacks one path, so a failure is said and no more.
set -euo pipefail

target=$(realpath -m "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

printf '  %-7s %s\n' APT "docker.io (docker-proxy alone)"
cd "$work"
if apt-get download -qq docker.io 2>/dev/null && dpkg-deb --fsys-tarfile docker.io_*.deb | tar -x ./usr/sbin/docker-proxy; then
	install -m 755 usr/sbin/docker-proxy "$target"
else
	echo "docker-proxy: no package docker.io to be had; the benchmark goes without" >&2
fi
