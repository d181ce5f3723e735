// SPDX-License-Identifier: Apache-2.0
/*
 * messages: the shapes of PROTOCOL.md as C structs, and the bounded way in and out of MessagePack.
 *
 * Pack appends the header frame to a df_buf. Unpack checks every bound before it decodes anything, takes memory from the
 * arena only, and points strings into the frame's bytes (which must outlive the message).
 * Errors: DF_ERR_PARSE (not MessagePack, wrong shape or type, bytes left over), DF_ERR_LIMIT (a bound of base/limits.h),
 * DF_ERR_VERSION, DF_ERR_NOMEM.
 */
#ifndef DF_PROTO_MESSAGES_H
#define DF_PROTO_MESSAGES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/str.h"

#define DF_PROTO_VERSION 1

enum df_msg_type {
	DF_MSG_HELLO = 1,
	DF_MSG_NOTICE,
	DF_MSG_LEASE,
	DF_MSG_RESULT,
	DF_MSG_FAILED,
	DF_MSG_READ,
	DF_MSG_CREDIT,
	DF_MSG_CELLS,
	DF_MSG_SOURCE_END,
};

enum df_role { DF_ROLE_WORKER = 0, DF_ROLE_READER = 1 };
enum df_run_state { DF_STATE_RUN = 0, DF_STATE_DRAIN = 1, DF_STATE_STOP = 2 };
enum df_source_kind { DF_SOURCE_JSONL = 0, DF_SOURCE_TEXT = 1, DF_SOURCE_READER = 2 };
enum df_output_kind { DF_OUTPUT_JSONL = 0, DF_OUTPUT_NPY = 1, DF_OUTPUT_REJECTS = 2, DF_N_OUTPUT = 3 };

enum { DF_LEASE_ALONE = 1, DF_LEASE_REDO = 2 };
enum { DF_READ_STDIN = 1 };
enum { DF_SOURCE_END_DIFFERS = 1 };

/* Cells first .. first + n - 1 of one source. */
struct df_cells {
	uint32_t source;
	uint64_t first, n;
};

struct df_hello {
	uint64_t nonce;
	uint32_t role; /* enum df_role */
	uint32_t pid;
	uint64_t seq;
	uint64_t sent;
	uint32_t held;
	uint64_t peak_rss_bytes;
};

struct df_notice {
	uint64_t seq;
	uint32_t state; /* enum df_run_state */
	uint64_t nonce;
	struct df_str reason;
};

struct df_segment {
	struct df_cells cells;
	uint32_t kind;       /* enum df_source_kind */
	uint64_t start, end; /* bytes of the file */
	uint64_t cell_bytes;
	struct df_str path; /* to open */
	struct df_str name; /* to show, and for made ids */
	struct df_file_id id;
};

struct df_record_id {
	uint32_t source;
	uint64_t offset;
};

/* What ended a process, as far as its document may be to blame. A stranger's kill is nobody's strike. */
enum df_cause {
	DF_CAUSE_STRANGER, /* SIGKILL, SIGTERM, ... of others, or the process was found stopped */
	DF_CAUSE_SIGNAL,   /* SEGV, ABRT, BUS, FPE, ILL, SYS; detail: the signal */
	DF_CAUSE_EXIT,     /* it left by itself; detail: the exit code */
	DF_CAUSE_DEADLINE, /* the run's own deadline; detail: its length in ms */
	DF_CAUSE_MEMORY,   /* the run's memory limit or the kernel's; detail: MB in use, 0: unknown */
	DF_N_CAUSE,
};

#define DF_NO_STAGE UINT32_MAX /* while a record was read or its rows written */

/* Deaths that a record is to blame for: of processes in which it was alone. At DF_STRIKES_MAX it is poison. */
struct df_strike {
	struct df_record_id record;
	uint32_t n;
	/* of the last death */
	uint32_t cause; /* enum df_cause */
	uint32_t detail;
	uint32_t stage; /* number in the pipeline, from 0; DF_NO_STAGE */
};

static inline bool df_strike_eq(const struct df_strike *a, const struct df_strike *b)
{
	return a->record.source == b->record.source && a->record.offset == b->record.offset && a->n == b->n &&
	       a->cause == b->cause && a->detail == b->detail && a->stage == b->stage;
}

struct df_lease_msg {
	uint32_t flags;
	struct df_segment *segment;
	size_t n_segment;
	struct df_strike *poison; /* records that must not be touched but rejected */
	size_t n_poison;
};

struct df_output {
	uint32_t kind; /* enum df_output_kind */
	uint64_t rows;
	uint64_t raw_bytes; /* before compression */
	uint64_t hash;      /* XXH3-64 of the frame */
};

struct df_counter {
	struct df_str name;
	uint64_t value;
};

struct df_result {
	uint32_t part;
	bool last;
	struct df_cells *cells; /* of the last part */
	size_t n_cells;
	struct df_output *output; /* one per payload frame */
	size_t n_output;
	struct df_counter *counter; /* of the last part */
	size_t n_counter;
	uint64_t seq; /* 1, 2, ...: RESULT and FAILED messages of the lane */
};

struct df_failed {
	enum df_err code;
	struct df_str message;
	uint32_t source; /* UINT32_MAX: none */
	uint64_t offset;
	uint64_t seq; /* as in df_result */
};

struct df_cell_info {
	uint64_t start, bytes, records, hash;
};

/* Cells that are known, with what was said of them (proto/cell_info.h); zeros: nothing that could be compared. */
struct df_range {
	uint64_t first, n;
	struct df_cell_info info;
};

struct df_read {
	uint32_t source;
	uint32_t format; /* enum df_format of worker/read and coordinator/cells */
	uint32_t flags;
	struct df_str path, name;
	struct df_file_id id;
	uint64_t cell_bytes;
	uint64_t skip_records, limit_records; /* limit UINT64_MAX: none */
	uint64_t credit_bytes;
	struct df_range *done;
	size_t n_done;
};

struct df_credit {
	uint64_t bytes;
};

struct df_cells_msg {
	uint32_t source;
	uint64_t first;
	struct df_cell_info *cell; /* one per payload frame */
	size_t n_cell;
};

struct df_source_end {
	uint32_t source;
	uint64_t n_cell, bytes, records;
	enum df_err code;
	struct df_str message;
	uint32_t flags; /* DF_SOURCE_END_DIFFERS: cells that were known have another content now */
};

struct df_msg {
	uint32_t type; /* enum df_msg_type */
	uint32_t epoch;
	uint64_t lane;
	uint64_t lease;
	union {
		struct df_hello hello;
		struct df_notice notice;
		struct df_lease_msg lease_msg;
		struct df_result result;
		struct df_failed failed;
		struct df_read read;
		struct df_credit credit;
		struct df_cells_msg cells;
		struct df_source_end source_end;
	};
};

enum df_err df_msg_pack(const struct df_msg *msg, struct df_buf *out) DF_MUST_CHECK;
enum df_err df_msg_unpack(struct df_str frame, struct df_arena *arena, struct df_msg *ret_msg,
			  struct df_fail *fail) DF_MUST_CHECK;

/* The bounded walk alone: true when the bytes are exactly one MessagePack value within all bounds. */
enum df_err df_unpack_check(struct df_str frame, struct df_fail *fail) DF_MUST_CHECK;

/* Lane ids: epoch << 20 | counter (1 .. 2^20-1). */
static inline uint64_t df_lane_id(uint32_t epoch, uint32_t counter)
{
	return (uint64_t)epoch << 20 | counter;
}

#endif
