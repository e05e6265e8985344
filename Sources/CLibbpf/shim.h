#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

/* Some headers have these as enumerators and as macros, which Swift takes for two. */
static const __u32 btf_kind_function = BTF_KIND_FUNC;
static const __u32 btf_kind_structure = BTF_KIND_STRUCT;
