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
selection=()
if [[ -n ${FILTER:-} ]]; then selection+=(--filter "$FILTER"); fi
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

log=$scratch/test.log
begin=$SECONDS
status=0
"$swift" test --skip-build "${flags[@]}" ${selection+"${selection[@]}"} ${more+"${more[@]}"} 2>&1 | tee "$log" || status=$?
took="$((SECONDS - begin)) s"

# Lines such as: ➜ Test "…" skipped: "needs root"
skipped=$(grep -aE '^[^"]* (Test|Suite) .* skipped(: ".*"|[.])?$' "$log" || true)
echo
if [[ -n $skipped ]]; then printf 'Skipped:\n%s\n\n' "$skipped"; fi
if ((status != 0)); then
	grep -aE '^✘' "$log" || true
	echo "Tests failed ($took)."
	exit "$status"
fi
if ! grep -aqE 'Test run with [1-9][0-9]* tests? ' "$log"; then
	echo "No test ran ($took)."
	exit 1
fi
if [[ -n $skipped && $strict == 1 ]]; then
	echo "Tests passed ($took), but some were skipped: here that is a failure."
	exit 1
fi
echo "Tests passed ($took)${skipped:+, but for those that were skipped}."
