#include "CDatapath.h"

/* Made by `make bpf` (bpftool gen skeleton). */
#include "generated/datapath.skel.h"
#include "generated/sockets.skel.h"

const void *fastnat_datapath_object(size_t *size)
{
	return datapath__elf_bytes(size);
}

const void *fastnat_sockets_object(size_t *size)
{
	return sockets__elf_bytes(size);
}

struct reason_entry {
	const char *name;
	const char *text;
	int drops;
};

#define REASON_ENTRY(identifier, name, dropped, text) [REASON_##identifier] = {#name, text, dropped},

static const struct reason_entry reasons[REASON_COUNT] = {FASTNAT_REASONS(REASON_ENTRY)};

#define STAGE_ENTRY(identifier, program) [STAGE_##identifier] = #program,

static const char *const stage_programs[STAGE_COUNT] = {FASTNAT_STAGES(STAGE_ENTRY)};

const char *fastnat_stage_program(unsigned int stage)
{
	return stage < STAGE_COUNT ? stage_programs[stage] : NULL;
}

const char *fastnat_reason_name(unsigned int reason)
{
	return reason < REASON_COUNT ? reasons[reason].name : NULL;
}

const char *fastnat_reason_text(unsigned int reason)
{
	return reason < REASON_COUNT ? reasons[reason].text : NULL;
}

int fastnat_reason_drops(unsigned int reason)
{
	return reason < REASON_COUNT && reasons[reason].drops;
}
