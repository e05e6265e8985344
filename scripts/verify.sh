#!/usr/bin/env bash
# Compares what the programs cost on this kernel with docs/datapath-cost.txt. usage: verify.sh COST-PROGRAM [--update] OBJECT...
#
# Fails when instructions grew by more than 5 %, a stack is over 512 bytes, or the file is stale: other programs than there
# are, or figures more than 5 % too high. Another kernel or compiler than the file's gives other figures: they are shown, and
# only the stack is judged.
set -euo pipefail
cd "$(dirname "$0")/.."

measure=$1
shift
update=0
if [[ $1 == --update ]]; then
	update=1
	shift
fi
file=docs/datapath-cost.txt

if ((EUID != 0)); then
	echo "verify: loading programs into the kernel takes root" >&2
	exit 1
fi
kernel=$(uname -r)
kernel=$(grep -oE '^[0-9]+\.[0-9]+' <<<"$kernel")
compiler=$("${BPF_CLANG:-clang}" --version | grep -oE 'clang version [0-9]+' | head -n 1)
where="Linux $kernel, $compiler"
costs=$(for object; do "$measure" "$object" || exit 1; done)

if ((update)); then
	{
		cat <<'HEAD'
# What each program of the datapath costs. `make verify UPDATE=1` writes this file, `make verify` compares with it.
#
# instructions  of the program and the functions it calls, as the kernel runs them: after the verifier has put its own in
# verified      instructions the verifier walked through to prove the program safe; it gives up at 1,000,000
# stack         bytes of the deepest chain of calls, each function rounded up to 32; more than 512 are refused. (So does
#               Linux up to 6.6 at least; 6.18 rounds to 16. A timer's callback counts as if it were called.)
#
HEAD
		printf '# %s\n' "$where"
		awk '{ printf "%-20s %12s %9s %6s\n", $1, $2, $3, $4 }' < <(echo "program instructions verified stack" && echo "$costs")
	} >"$file"
	printf '  %-7s %s\n' WRITE "$file"
fi

recorded=$(sed -n 's/^# \(Linux .*, clang.*\)/\1/p' "$file" 2>/dev/null || true)
[[ $recorded == "$where" ]] && judged=1 || judged=0

awk -v judged="$judged" -v file="$file" -v recorded="${recorded:-nothing}" -v where="$where" '
	function change(was, is) { return was ? sprintf("%+.1f %%", (is - was) * 100 / was) : "new" }
	function compare(name, what, was, is) {
		if (!judged) return
		if (is > was * 1.05) complain(name ": " what " grew from " was " to " is)
		else if (is < was * 0.95) complain(file " is stale: " name " has " is " " what ", not " was)
	}
	function complain(text) { complaints[++count] = text }
	FILENAME == file && !/^#/ && $1 != "program" && NF == 4 {
		instructions[$1] = $2; verified[$1] = $3; stack[$1] = $4
	}
	FILENAME == "-" {
		known = $1 in instructions
		if (!head++) printf "%-20s %12s %9s %10s %9s %6s\n", "program", "instructions", "", "verified", "", "stack"
		printf "%-20s %12d %9s %10d %9s %6d\n", $1, $2, change(instructions[$1], $2), $3, change(verified[$1], $3), $4
		if ($4 > 512) complain($1 ": a stack of " $4 " bytes is more than older kernels allow (512)")
		if (!known) complain(file " is stale: it lacks " $1)
		else {
			compare($1, "instructions", instructions[$1], $2)
			compare($1, "verified instructions", verified[$1], $3)
			if (judged && stack[$1] != $4) complain(file " is stale: " $1 " has a stack of " $4 " bytes, not " stack[$1])
		}
		seen[$1] = 1
	}
	END {
		for (name in instructions) if (!(name in seen)) complain(file " is stale: there is no " name)
		if (!judged) print "Recorded: " recorded ". Here: " where ". Instructions are not judged."
		for (i = 1; i <= count; i++) print "verify: " complaints[i] > "/dev/stderr"
		if (count) print "verify: if that is meant, write the new figures down: make verify UPDATE=1" > "/dev/stderr"
		exit count > 0
	}' "$([[ -e $file ]] && echo "$file" || echo /dev/null)" - <<<"$costs"
