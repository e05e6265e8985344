#include "CBench.h"

/* Made by `make bpf` (bpftool gen skeleton). */
#include "generated/bench.skel.h"

const void *cbench_object(size_t *size)
{
	return bench__elf_bytes(size);
}
