/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* SCTP (RFC 9260). Its CRC32c covers the ports and no pseudo header, and nothing here can compute one: addresses are
 * translated, ports stay. */
#ifndef FASTNAT_NET_SCTP_H
#define FASTNAT_NET_SCTP_H

#include "headers.h"

/* The common header and the first chunk's (RFC 9260, 3.1 and 3.2): every packet has one. */
struct sctp_header {
	__be16 source;
	__be16 dest;
	__be32 verification_tag;
	__be32 checksum;
	__u8 chunk_type;
	__u8 chunk_flags;
	__be16 chunk_length;
};
#define SCTP_COMMON_BYTES 12

enum sctp_chunk {
	SCTP_DATA = 0,
	SCTP_INIT = 1,
	SCTP_INIT_ACK = 2,
	SCTP_ABORT = 6,
	SCTP_SHUTDOWN = 7,
	SCTP_SHUTDOWN_ACK = 8,
	SCTP_SHUTDOWN_COMPLETE = 14,
};

/* Four bits for each type of chunk: the TCP flags that say of a connection what the chunk says of an association, ACK standing
 * in bit 3. A table, because each branch of a switch is one more way that the verifier has to go. */
#define SCTP_FLAGS(type, flags) ((__u64)((flags)&7 | (flags) >> 1 & 8) << 4 * (type))
#define SCTP_FLAGS_OF_OTHERS 0x8888888888888888ULL
#define SCTP_FLAGS_OF_CHUNKS \
	((SCTP_FLAGS_OF_OTHERS & ~SCTP_FLAGS(SCTP_INIT, TCP_ACK) & ~SCTP_FLAGS(SCTP_ABORT, TCP_ACK)) | \
	 SCTP_FLAGS(SCTP_INIT, TCP_SYN) | SCTP_FLAGS(SCTP_INIT_ACK, TCP_SYN) | SCTP_FLAGS(SCTP_ABORT, TCP_RST) | \
	 SCTP_FLAGS(SCTP_SHUTDOWN, TCP_FIN) | SCTP_FLAGS(SCTP_SHUTDOWN_ACK, TCP_FIN) | \
	 SCTP_FLAGS(SCTP_SHUTDOWN_COMPLETE, TCP_FIN))

/* INIT stands alone in its packet, whose tag is 0 (RFC 9260, 8.5.1): with another one, its receiver ignores it. */
static __always_inline __u8 sctp_flags(const struct sctp_header *sctp)
{
	__u32 type = sctp->chunk_type;
	__u32 flags;

	if (type > 15 || (type == SCTP_INIT && sctp->verification_tag))
		type = SCTP_DATA;
	flags = SCTP_FLAGS_OF_CHUNKS >> 4 * type;
	return (flags & 7) | (flags & 8) << 1;
}

/* A local sender left the CRC to a device: the field holds 0 (Linux, sctp_packet_transmit). One in 2^32 finished packets looks
 * the same. */
static __always_inline bool sctp_checksum_is_partial(const struct sctp_header *sctp)
{
	return !sctp->checksum;
}

#endif
