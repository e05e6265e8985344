#!/usr/bin/env bash
# Checks formatting, layers, words and shell scripts; says everything that is wrong before it fails.
# BPF_CFLAGS and BPF_CLANG come from the Makefile.
set -euo pipefail
cd "$(dirname "$0")/.."

swift=${SWIFT:-swift}
clang=${BPF_CLANG:-clang}
failures=0

check() { # a function, after a line that names it
	printf '  %-7s %s\n' LINT "$2"
	"$1" || failures=$((failures + 1))
}

complain() {
	printf '%s\n' "$@" >&2
	false
}

swift_format() {
	"$swift" format lint --strict --recursive --parallel Package.swift Sources Tests
}

c_format() {
	local file wrong=0
	while read -r file; do
		clang-format --dry-run -Werror "$file" 2>/dev/null || { complain "$file: not formatted (make format)" || wrong=1; }
	done < <(scripts/c-files.sh)
	((wrong == 0))
}

shell_scripts() {
	shellcheck .ci/run scripts/*.sh
}

c_warnings() { # SwiftPM cannot make them errors
	local module wrong=0
	for module in Sources/*/include; do
		module=${module%/include}
		"$clang" -std=gnu11 -Wall -Wextra -Werror -fsyntax-only "-I$module/include" "$module"/*.c || wrong=1
	done
	((wrong == 0))
}

# --- layers ------------------------------------------------------------------------------------------------------------

# bpf/ from left to right: a file includes only what stands to the left of it, or beside it.
bpf_layer() {
	case $1 in
	bpf/abi/*) echo 0 ;;
	bpf/hook/*) echo 1 ;;
	bpf/net/*) echo 2 ;;
	bpf/nat/*) echo 3 ;;
	bpf/pipeline/* | bpf/socket/*) echo 4 ;;
	bpf/pipeline.h) echo 5 ;;
	bpf/bench/*) echo 7 ;;
	bpf/*.bpf.c) echo 6 ;;
	*) complain "$1: in none of bpf's layers (scripts/lint.sh)" ;;
	esac
}

bpf_layers() {
	local file included target own other wrong=0
	while read -r file; do
		own=$(bpf_layer "$file") || return 1
		while read -r included; do
			target=$(realpath --relative-to=. "$(dirname "$file")/$included")
			other=$(bpf_layer "$target") || return 1
			((other <= own)) || { complain "$file includes $target, which is to the right of it" || wrong=1; }
		done < <(sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"([^"]+)".*/\1/p' "$file")
	done < <(find bpf -name '*.[ch]' | sort)
	((wrong == 0))
}

bpf_headers_alone() {
	local header flags wrong=0
	read -ra flags <<<"$BPF_CFLAGS"
	while read -r header; do
		"$clang" "${flags[@]}" -fsyntax-only -x c "$header" || { complain "$header does not compile alone" || wrong=1; }
	done < <(find bpf -name '*.h' | sort)
	((wrong == 0))
}

# Modules of the project that each module may import. What is not the project's (Glibc, Foundation) is not looked at, but for
# ArgumentParser. CLI is imported by tests alone.
declare -A may_import=(
	[Addresses]="CLinux"
	[Netlink]="Addresses CLinux CMnl"
	[BPF]="CLibbpf CLinux"
	[FastNAT]="Addresses BPF CDatapath CLinux Netlink"
	[Configuration]="Addresses FastNAT Yams"
	[Rules]="Addresses FastNAT"
	[CNI]="Addresses FastNAT"
	[Docker]="Addresses FastNAT Logging NIOCore NIOHTTP1 NIOPosix"
	[Bench]="BPF CBench FastNAT Lab"
	[CLI]="Addresses ArgumentParser Bench CNI Configuration Docker FastNAT Logging Rules"
	[Lab]="CLinux"
	[FastNATTesting]="CLibbpf CLinux Lab"
	[FastNATTests]="Addresses ArgumentParser CLI CNI Configuration Docker FastNAT FastNATTesting Netlink Rules"
	[DatapathTests]="Addresses BPF CDatapath FastNAT FastNATTesting"
	[BenchTests]="Bench FastNATTesting"
	[EndToEndTests]="Addresses Bench CDatapath CNI FastNATTesting"
)
readonly c_modules="CBench CDatapath CLibbpf CLinux CMnl"

swift_imports() { # file:line:module
	grep -rnE --include='*.swift' '^[[:space:]]*(@[A-Za-z()_]+[[:space:]]+)*((public|package|internal|fileprivate|private)[[:space:]]+)?import[[:space:]]' Sources Tests |
		sed -E 's/^([^:]+:[0-9]+):.*import[[:space:]]+((struct|class|enum|protocol|typealias|func|let|var)[[:space:]]+)?([A-Za-z0-9_]+).*/\1:\4/'
}

swift_layers() {
	local file line imported module wrong=0
	local ours=" ArgumentParser Logging NIOCore NIOHTTP1 NIOPosix Yams $c_modules ${!may_import[*]} "
	for module in Sources/* Tests/*; do
		module=${module##*/}
		[[ $ours == *" $module "* ]] || { complain "$module: say in scripts/lint.sh what it may import" || wrong=1; }
	done
	while IFS=: read -r file line imported; do
		module=$(cut -d/ -f2 <<<"$file")
		if [[ $ours != *" $imported "* || " ${may_import[$module]:-} " == *" $imported "* ]]; then continue; fi
		complain "$file:$line: $module must not import $imported" || wrong=1
	done < <(swift_imports)
	((wrong == 0))
}

# --- words -------------------------------------------------------------------------------------------------------------

# The brackets keep these lines from finding themselves.
unfinished_words() {
	! grep -rnwE --exclude-dir=generated 'TO[D]O|FIX[M]E|X[X]X' \
		bpf Sources Tests scripts docs .ci Makefile Package.swift CONTRIBUTING.md >&2
}

swift_traps() {
	! grep -rnE --include='*.swift' --exclude-dir=FastNATTesting '\b(try!|as!|fatalError\b)' Sources >&2
}

check swift_format "Swift format"
check c_format "C format"
check c_warnings "C warnings"
check bpf_layers "bpf: includes"
check bpf_headers_alone "bpf: headers compile alone"
check swift_layers "Swift: imports"
check unfinished_words "unfinished work"
check swift_traps "try!, as!, fatalError"
check shell_scripts "shell scripts"

if ((failures > 0)); then
	echo "lint: $failures checks failed" >&2
	exit 1
fi
