#!/usr/bin/env bash
# Builds and runs the tests; its last line says how it went.
#
# FILTER=NAME       only tests whose name matches
# STRICT=1          compiler warnings and skipped tests are failures (as in CI)
# FASTNAT_BINARY    the fastnat to test from outside; by default the one built here
# FASTNAT_DOCKER    full: Docker with many containers, and figures, of the release binary
# TEST_FLAGS        more arguments for swift test, such as --no-parallel
set -euo pipefail
cd "$(dirname "$0")/.."

swift=${SWIFT:-swift}
strict=${STRICT:-0}
scratch=.build
flags=()
if [[ $strict == 1 ]]; then
	# A place of its own: other flags would otherwise have everything built again, now and the next time.
	scratch=.build/strict
	flags+=(-Xswiftc -warnings-as-errors)
fi
flags+=(--scratch-path "$scratch")
read -ra more <<<"${TEST_FLAGS:-}"

if ((EUID != 0)); then echo "Not root: tests that need network namespaces or BPF are skipped." >&2; fi

printf '  %-7s %s\n' SWIFT tests
"$swift" build --quiet --build-tests "${flags[@]}"
built=$scratch/debug/fastnat
if [[ ${FASTNAT_DOCKER:-} == full ]]; then built=.build/release/fastnat; fi
export FASTNAT_BINARY=${FASTNAT_BINARY:-$PWD/$built}
[[ -x $FASTNAT_BINARY ]] || {
	echo "test: no fastnat at $FASTNAT_BINARY" >&2
	exit 1
}

# The stack of the thread that crashed, and no more: whoever sees the end of a long log alone sees it.
export SWIFT_BACKTRACE=${SWIFT_BACKTRACE:-enable=yes,color=no,interactive=no,threads=crashed,registers=none,images=none}

log=$scratch/test.log
begin=$SECONDS
status=0
crashes=()
: >"$log"

run() { # a name for what is run, arguments of swift test
	local name=$1 from
	shift
	from=$(wc -l <"$log")
	"$swift" test --skip-build "${flags[@]}" "$@" ${more+"${more[@]}"} 2>&1 | tee -a "$log" && return
	status=1
	tail -n "+$((from + 1))" "$log" | grep -a 'Test run with [0-9]' >/dev/null || crashes+=("$name")
}

# A crash takes all tests of its process with it: so the tests of each target have one.
if [[ -n ${FILTER:-} ]]; then
	run "$FILTER" --filter "$FILTER"
else
	for target in Tests/*; do run "${target#Tests/}\." --filter "^${target#Tests/}\."; done
fi
took="$((SECONDS - begin)) s"

# Lines such as: ➜ Test "…" skipped: "needs root"
skipped=$(grep -aE '^[^"]* (Test|Suite) .* skipped(: ".*"|[.])?$' "$log" || true)
echo
if [[ -n $skipped ]]; then printf 'Skipped:\n%s\n\n' "$skipped"; fi
if ((status != 0)); then
	grep -aE '^✘' "$log" || true
	grep -aE -B 4 -A 40 '^\*\*\* Program crashed' "$log" || true
	for name in ${crashes+"${crashes[@]}"}; do echo "Crashed: $name"; done | tee -a "$log"
	echo "Tests failed ($took)."
	exit "$status"
fi
total=$(grep -aoE 'Test run with [1-9][0-9]* tests? in [0-9]+ suites?' "$log" |
	awk '{ tests += $4; suites += $7 } END { if (tests) print tests " tests in " suites " suites" }' || true)
if [[ -z $total ]]; then
	echo "No test ran ($took)."
	exit 1
fi
if [[ -n $skipped && $strict == 1 ]]; then
	echo "Tests passed ($took), but some were skipped: here that is a failure."
	exit 1
fi
echo "Tests passed: $total ($took)${skipped:+, but for those that were skipped}." | tee -a "$log"
