/* SPDX-License-Identifier: MIT */
/* Loads every program of a BPF object and prints what each costs: instructions, instructions verified, stack.
 *
 * Nothing is pinned or attached: all of it goes when this process does. bpftool would do for the first figure alone; for the
 * others it makes the kernel write every step of the verifier down, which takes a minute and hundreds of megabytes. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "../bpf/abi/settings.h"
#include "../bpf/abi/limits.h"

enum {
	LOG_STATISTICS = 4, /* BPF_LOG_STATS: the summary, without the steps */
	LOG_SIZE = 1 << 16,
	FUNCTIONS_MAX = 256,  /* BPF_MAX_SUBPROGS */
	FRAME_ALIGNMENT = 32, /* of a function's stack up to Linux 6.6; 6.18 with a JIT compiler takes 16 */
};

/* The functions of a program, as the kernel numbers them. */
struct functions {
	unsigned int count;
	unsigned int stack[FUNCTIONS_MAX]; /* bytes of one frame */
	unsigned int start[FUNCTIONS_MAX]; /* first instruction; of a function that nobody calls, 0 */
	bool calls[FUNCTIONS_MAX][FUNCTIONS_MAX];
};

static void fail(const char *what, int error)
{
	fprintf(stderr, "datapath-cost: %s: %s\n", what, strerror(error < 0 ? -error : error));
	exit(1);
}

static int print_warnings(enum libbpf_print_level level, const char *format, va_list arguments)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, arguments) : 0;
}

/* "stack depth 272+48+8": a number for each function. */
static void read_stack_depths(const char *log, struct functions *functions)
{
	const char *at = strstr(log, "stack depth ");
	char *end;

	functions->count = 0;
	if (!at)
		fail("the verifier told no stack depth", ENOTSUP);
	at += strlen("stack depth ");
	do {
		functions->stack[functions->count++] = strtoul(at, &end, 10);
		at = end + 1;
	} while (*end == '+' && functions->count < FUNCTIONS_MAX);
}

/* The function that an instruction calls or passes as a callback: its number, and where it begins. */
static bool refers_to(const struct bpf_insn *code, unsigned int index, unsigned int *function, unsigned int *start)
{
	const struct bpf_insn *insn = &code[index];

	if (insn->code == (BPF_JMP | BPF_CALL) && insn->src_reg == BPF_PSEUDO_CALL) {
		*function = insn->imm;
		*start = index + insn->off + 1;
		return true;
	}
	if (insn->code == (BPF_LD | BPF_IMM | BPF_DW) && insn->src_reg == BPF_PSEUDO_FUNC) {
		*function = insn[1].imm;
		*start = index + insn->imm + 1;
		return true;
	}
	return false;
}

static void read_calls(const struct bpf_insn *code, unsigned int length, struct functions *functions)
{
	unsigned int index, target, start, caller = 0;

	memset(functions->start, 0, sizeof(functions->start));
	memset(functions->calls, 0, sizeof(functions->calls));
	for (index = 0; index < length; index++) {
		if (!refers_to(code, index, &target, &start))
			continue;
		if (target >= functions->count || start >= length)
			fail("the kernel shows calls in another form (is its JIT compiler off?)", ENOTSUP);
		functions->start[target] = start;
	}
	for (index = 0; index < length; index++) {
		while (caller + 1 < functions->count && functions->start[caller + 1] <= index)
			caller++;
		if (refers_to(code, index, &target, &start))
			functions->calls[caller][target] = true;
	}
}

/* The deepest chain of calls from here. The verifier has made sure that there is no recursion. */
static unsigned int stack_below(const struct functions *functions, unsigned int function)
{
	unsigned int own = functions->stack[function] ? functions->stack[function] : 1, deepest = 0, callee;

	for (callee = 0; callee < functions->count; callee++) {
		if (functions->calls[function][callee]) {
			unsigned int below = stack_below(functions, callee);

			deepest = below > deepest ? below : deepest;
		}
	}
	return (own + FRAME_ALIGNMENT - 1) / FRAME_ALIGNMENT * FRAME_ALIGNMENT + deepest;
}

static void print_cost(const struct bpf_program *program, const char *log)
{
	static struct functions functions;
	struct bpf_prog_info info = {0};
	__u32 size = sizeof(info), length;
	struct bpf_insn *code;
	int error;

	error = bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size);
	if (error)
		fail(bpf_program__name(program), error);
	length = info.xlated_prog_len;
	code = malloc(length);
	if (!code)
		fail(bpf_program__name(program), ENOMEM);
	memset(&info, 0, sizeof(info));
	info.xlated_prog_len = length;
	info.xlated_prog_insns = (__u64)(unsigned long)code;
	error = bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size);
	if (error)
		fail(bpf_program__name(program), error);

	length /= sizeof(*code);
	read_stack_depths(log, &functions);
	read_calls(code, length, &functions);
	printf("%s %u %u %u\n", bpf_program__name(program), length, info.verified_insns, stack_below(&functions, 0));
	free(code);
}

/* Constants as the loader draws them for tables of the default size: the verifier takes other ways with zeros. */
static void set_constants(struct bpf_object *object)
{
	struct bpf_map *constants = bpf_object__find_map_by_name(object, ".rodata");
	struct layout layout = {
		.bucket_mask = DEFAULT_MAX_FLOWS * 4 / BUCKET_WORDS - 1,
		.slot_word_mask = DEFAULT_MAX_FLOWS / SLOTS_PER_WORD - 1,
		.second_ticks = 250,
	};
	int word, error;

	if (!constants)
		return;
	for (word = 0; word < HASH_KEYS; word++)
		layout.hash_keys[word] = 0x9e3779b97f4a7c15ULL * (word + 1);
	error = bpf_map__set_initial_value(constants, &layout, sizeof(layout));
	if (error)
		fail("the constants", error);
}

/* In bits from the structure's beginning, members of unnamed structures and unions as its own; or 0. */
static __u32 bit_field(const struct btf *types, const char *name, __s32 composite)
{
	const struct btf_type *type = composite > 0 ? btf__type_by_id(types, composite) : NULL;
	__u32 index;

	if (!type || !btf_is_composite(type))
		return 0;
	for (index = 0; index < btf_vlen(type); index++) {
		const struct btf_member *member = &btf_members(type)[index];
		__u32 offset = btf_member_bit_offset(type, index), inner;

		if (member->name_off && !strcmp(btf__name_by_offset(types, member->name_off), name))
			return offset;
		inner = member->name_off ? 0 : bit_field(types, name, member->type);
		if (inner)
			return offset + inner;
	}
	return 0;
}

static void replace_helper(struct bpf_program *program, __s32 placeholder, __s32 function)
{
	size_t length = bpf_program__insn_cnt(program), index;
	struct bpf_insn *code = calloc(length, sizeof(*code));
	int error;

	if (!code)
		fail(bpf_program__name(program), ENOMEM);
	memcpy(code, bpf_program__insns(program), length * sizeof(*code));
	for (index = 0; index < length; index++) {
		if (code[index].code == (BPF_JMP | BPF_CALL) && !code[index].src_reg && code[index].imm == placeholder) {
			code[index].src_reg = BPF_PSEUDO_KFUNC_CALL;
			code[index].imm = function;
		}
	}
	error = bpf_program__set_insns(program, code, length);
	if (error)
		fail(bpf_program__name(program), error);
	free(code);
}

/* As the loader does, where the kernel allows it. */
static void show_checksum_states(struct bpf_object *object)
{
	struct bpf_map *constants = bpf_object__find_map_by_name(object, ".rodata.kernel");
	struct btf *types = btf__load_vmlinux_btf();
	struct checksum_state_place place;
	struct bpf_program *program;
	__s32 cast;
	__u32 bits;
	int error;

	if (!constants || !types)
		return;
	cast = btf__find_by_name_kind(types, "bpf_cast_to_kern_ctx", BTF_KIND_FUNC);
	bits = bit_field(types, "ip_summed", btf__find_by_name_kind(types, "sk_buff", BTF_KIND_STRUCT));
	btf__free(types);
	if (cast <= 0 || !bits)
		return;
	place.offset = bits / 8;
	place.shift = bits % 8;
	error = bpf_map__set_initial_value(constants, &place, sizeof(place));
	if (error)
		fail("the constants", error);
	bpf_object__for_each_program(program, object)
		replace_helper(program, KERNEL_CAST_PLACEHOLDER, cast);
}

int main(int count, char **arguments)
{
	struct bpf_object *object;
	struct bpf_program *program;
	int error;

	if (count != 2) {
		fprintf(stderr, "usage: datapath-cost OBJECT\n");
		return 2;
	}
	libbpf_set_print(print_warnings);
	object = bpf_object__open(arguments[1]);
	if (!object)
		fail(arguments[1], errno);
	bpf_object__for_each_program(program, object) {
		char *log = calloc(1, LOG_SIZE);

		if (!log)
			fail(arguments[1], ENOMEM);
		bpf_program__set_log_buf(program, log, LOG_SIZE);
		bpf_program__set_log_level(program, LOG_STATISTICS);
	}
	set_constants(object);
	show_checksum_states(object);
	error = bpf_object__load(object);
	if (error)
		fail("the kernel refused the programs", error);
	bpf_object__for_each_program(program, object) {
		size_t size;

		print_cost(program, bpf_program__log_buf(program, &size));
	}
	bpf_object__close(object);
	return 0;
}
