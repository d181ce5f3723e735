// SPDX-License-Identifier: Apache-2.0
/*
 * store: the durable side of the sink: where rows go, and when they count.
 *
 * Two kinds behind one interface. A *run directory* has parts, rejects and a journal; bytes count when the commit that names them is
 * durable (data synced, then the record synced), done by a sync thread while the sink goes on writing. *stdout* has no
 * journal: a row counts when write(2) returned.
 *
 * Life: open -> (append* commit reap)* -> finish -> close; all calls from the sink thread. After any error the store accepts nothing more but
 * close; what was committed before stays committed, and the same command goes on from there. A failed sync is never retried.
 */
#ifndef DF_COORDINATOR_SINK_STORE_H
#define DF_COORDINATOR_SINK_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/io.h"
#include "proto/blob.h"
#include "proto/messages.h"

struct df_store;

enum df_fsync { DF_FSYNC_COMMIT, DF_FSYNC_ROTATE, DF_FSYNC_NEVER };

struct df_store_config {
	int dir_fd;              /* the run directory, open and locked by the caller; -1: stdout */
	int out_fd;              /* stdout kind: where JSONL rows go */
	int rejects_fd;          /* stdout kind: where rejects go; -1: they are counted only */
	bool want[DF_N_OUTPUT];  /* which files the run writes; rejects are always wanted in a run directory */
	bool zstd;               /* JSONL and rejects arrive as whole zstd frames: files end in .zst */
	uint32_t npy_item_bytes; /* 4 (float32) or 2 (float16); the dimension is seen in the first frame and recorded */
	uint64_t part_bytes;     /* all files rotate after the commit at which one of them has this many bytes */
	enum df_fsync fsync;
	uint64_t fingerprint; /* of pipeline, options and inputs: a journal of another is refused (DF_ERR_CHANGED) */
	uint64_t boot_id; /* of the machine's boot: in another one the power may have failed meanwhile; 0: not known */
	uint64_t run_id;  /* recorded in a new journal, given back by every later open */
	bool inline_sync; /* no sync thread: reap() does the work (simulation) */
};

/* A reader's cells carry what the reader said of them, so that a later epoch can check that the input is the same. */
struct df_commit_cells {
	struct df_cells cells;
	struct df_cell_info info; /* sum over the range, see proto/cell_info.h; zeros for plain files */
};

struct df_source_state {
	uint32_t source;
	bool ended;      /* n_cell is final */
	enum df_err err; /* a source error; DF_OK: none */
	uint64_t n_cell;
	struct df_str message;
};

/* What one commit makes durable, all or nothing. Everything is copied by df_store_commit. */
struct df_commit {
	const struct df_commit_cells *cells;
	size_t n_cells;
	const struct df_counter *counter; /* totals of the whole run so far, all epochs: absolute, not differences */
	size_t n_counter;
	const struct df_strike *strike; /* new or raised since the last commit; n is absolute */
	size_t n_strike;
	const struct df_source_state *source; /* new states since the last commit */
	size_t n_source;
};

struct df_part_info {
	uint32_t kind; /* enum df_output_kind */
	uint32_t no;
	bool open;
	uint64_t bytes, rows;
	uint64_t hash; /* XXH3-64 of the file's bytes; for .npy without the header */
	char name[64];
};

/* What the journal says at open. Memory: the arena given to df_store_open. */
struct df_recovered {
	bool fresh;     /* no journal was there */
	bool finished;  /* FINISH is recorded: the run is complete */
	uint32_t epoch; /* of this life: the last one + 1; 1 when fresh */
	uint64_t run_id;
	struct df_commit_cells *cells;
	size_t n_cells;
	struct df_counter *counter;
	size_t n_counter;
	struct df_strike *strike; /* the last state of each record */
	size_t n_strike;
	struct df_source_state *source;
	size_t n_source;
	uint64_t torn_bytes; /* cut from the journal's end */
	/* lost.code != DF_OK: a power cut took data that was not synced yet (lost.msg: which), and the run stepped back over commits with
	 * lost_cells cells, which are pending again. */
	struct df_fail lost;
	uint64_t lost_cells;
};

/* Opens or creates; heals a torn tail, completes half-done rotations, cuts files to the last commit that they hold (see `lost`), records the new
 * epoch durably before it returns. DF_ERR_CORRUPT names file and offset; DF_ERR_CHANGED: another fingerprint; DF_ERR_VERSION. After an
 * error that found something wrong the directory is as it was. */
enum df_err df_store_open(const struct df_store_config *config, const struct df_io *io, struct df_arena *arena,
			  struct df_store **ret_store, struct df_recovered *ret_recovered,
			  struct df_fail *fail) DF_MUST_CHECK;
void df_store_close(struct df_store **store);

/* Write one frame of rows behind the others of its kind (in the stdout kind .npy frames are an error). The blob is not kept. */
enum df_err df_store_append(struct df_store *s, enum df_output_kind kind, const struct df_blob *frame, uint64_t rows,
			    struct df_fail *fail) DF_MUST_CHECK;

/* Make all that was appended until now durable together with `commit`. One may be in flight: DF_ERR_BUSY. Where rows and vectors are both
 * written there must be as many of the one as of the other: DF_ERR_BUG. */
enum df_err df_store_commit(struct df_store *s, const struct df_commit *commit, struct df_fail *fail) DF_MUST_CHECK;
bool df_store_committing(const struct df_store *s);
/* Readable when reap() has something to say; -1 with inline_sync. */
int df_store_event_fd(const struct df_store *s);
/* True in *ret_done once per commit that became durable. Does rotation when it is due. */
enum df_err df_store_reap(struct df_store *s, bool *ret_done, struct df_fail *fail) DF_MUST_CHECK;

/* How large the grid of a complete run is, so that a journal proves by itself that no cell is missing. */
struct df_grid_size {
	uint64_t n_source;
	uint64_t n_cell; /* of all sources that have no error */
};

/* Nothing in flight may be left (reap first). Closes the parts under their final names; with `complete` writes the FINISH record. */
enum df_err df_store_finish(struct df_store *s, const struct df_grid_size *complete,
			    struct df_fail *fail) DF_MUST_CHECK;

/* Bytes appended since the last commit began. */
uint64_t df_store_pending_bytes(const struct df_store *s);
/* A file of this set has reached the part's size: the next commit ends the set. Never true on stdout. */
bool df_store_part_full(const struct df_store *s);
/* All parts known so far, in order; memory of the store, valid until the next call. */
const struct df_part_info *df_store_parts(struct df_store *s, size_t *ret_n);

#endif
