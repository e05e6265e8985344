/* The datapath as Swift sees it: the layouts it shares (bpf/abi), and the compiled programs. */
#ifndef CDATAPATH_H
#define CDATAPATH_H

#include <stddef.h>

#include "abi/abi.h"

/* The ELF object with every program and map of the datapath; `size` is set to its bytes. Static storage. */
const void *fastnat_datapath_object(size_t *size);

/* The same with the programs for sockets of the host itself. */
const void *fastnat_sockets_object(size_t *size);

/* The name of the program of a stage (enum stage); NULL for a number that is none. */
const char *fastnat_stage_program(unsigned int stage);

/* A reason by its number (enum reason): its name as printed, its text, and whether its packets were dropped (1) or left to the
 * stack (0). NULL, NULL, 0 for a number that is none. */
const char *fastnat_reason_name(unsigned int reason);
const char *fastnat_reason_text(unsigned int reason);
int fastnat_reason_drops(unsigned int reason);

#endif
