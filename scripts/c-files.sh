#!/usr/bin/env bash
# Prints the C files of the project that are not generated.
set -euo pipefail
cd "$(dirname "$0")/.."
find bpf Sources scripts -name generated -prune -o -type f -name '*.[ch]' -print | sort
