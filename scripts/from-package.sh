#!/usr/bin/env bash
# Takes one program out of a Debian package, without installing that: some start daemons when they are installed, and those
# change the host. usage: from-package.sh PACKAGE PATH FILE
#
# What needs the program goes without when there is no package, so a failure is said and no more.
set -euo pipefail

package=$1
path=$2
target=$(realpath -m "$3")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

printf '  %-7s %s\n' APT "$package ($(basename "$path") alone)"
cd "$work"
if apt-get download -qq "$package" 2>/dev/null && dpkg-deb --fsys-tarfile "$package"_*.deb | tar -x ".$path"; then
	install -D -m 755 ".$path" "$target"
else
	echo "from-package: no package $package to be had; what needs $(basename "$path") goes without" >&2
fi
