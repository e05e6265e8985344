/* What both ends of a load share. */
#ifndef CBENCH_SOCKETS_H
#define CBENCH_SOCKETS_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/types.h>

struct sockaddr_in ipv4_address(uint32_t address, uint16_t port);

/* Nanoseconds of the monotonic clock. */
uint64_t now(void);

/* Closes a descriptor and keeps errno. Returns -1. */
int close_failed(int descriptor);

/* Sends all of a message, or fails: it fits any socket buffer that is empty. */
int send_message(int descriptor, const void *message);

#endif
