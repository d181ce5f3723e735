// SPDX-License-Identifier: Apache-2.0
/*
 * limits: every ceiling of docflume has its name here. Defaults that users may change say so.
 */
#ifndef DF_BASE_LIMITS_H
#define DF_BASE_LIMITS_H

/* --- the grid --- */
#define DF_CELL_BYTES (16U << 10) /* default cell of a JSONL file; user: --cell-size */
#define DF_CELL_BYTES_MAX (16U << 20)
#define DF_MAX_SOURCES (16U << 20)       /* input files of one run */
#define DF_MAX_CELLS (UINT64_C(1) << 40) /* cells of one source */

/* --- leases --- */
#define DF_LEASE_TARGET_MS 150        /* a lease is sized to this much work */
#define DF_LEASE_BYTES_MAX (2U << 20) /* input bytes of one lease; a single larger cell may pass it */
#define DF_LEASE_BYTES_MAX_NONE                                                                                        \
	(8U << 20) /* the same when no rows are written, so that nothing has to wait at the sink */
#define DF_LEASE_CELLS_MAX 4096
#define DF_LEASE_SEGMENTS_MAX                                                                                          \
	400                    /* pieces of different sources in one lease: with paths of 4 KB each they fit a header */
#define DF_LANE_CREDITS 2      /* leases a lane may hold */
#define DF_LANE_REDO_CREDITS 2 /* and above them, of work that was lost with another lane */
#define DF_SUSPECT_KILLS 2     /* by strangers over one and the same cell, before it runs alone */
#define DF_STRIKES_MAX 3       /* deaths of a record that is alone before it is poisoned */
#define DF_POISON_PER_LEASE 4096 /* and of a run: beyond it the pipeline is at fault, not the records */
#define DF_CRASHES_MAX 10        /* of workers over one cell, outside of documents, before the run gives up */
#define DF_LANES_MAX 4096

/* --- records --- */
#define DF_RECORD_BYTES (8U << 20) /* default of --max-record */
#define DF_RECORD_BYTES_MAX (1U << 30)
#define DF_RECORD_PADDING 64      /* readable bytes behind a record, for vector loads */
#define DF_BLOCK_BYTES (1U << 20) /* a worker reads and processes this much at a time */
#define DF_BLOCK_RECORDS 4096     /* records of one batch */
#define DF_JSON_DEPTH 64
#define DF_JSON_FIELDS 4096                /* top-level keys of one record */
#define DF_RAW_REJECT_BYTES (64U << 10)    /* raw_base64 of a reject: cap in raw bytes */
#define DF_REJECT_EXTRA_BYTES (256U << 10) /* by which a reject may be longer than its record when it is tried again */

/* --- frames --- */
#define DF_FRAME_BYTES (256U << 10)   /* an output frame is cut at rows near this size */
#define DF_FRAME_BYTES_MAX (1U << 30) /* one row larger than a frame still travels whole */
#define DF_MESSAGE_FRAMES_MAX 1024
#define DF_HEADER_BYTES_MAX (4U << 20) /* the MessagePack frame of any message */
#define DF_UNPACK_DEPTH 8
#define DF_UNPACK_ITEMS 262144          /* elements of one message in all */
#define DF_STRING_BYTES_MAX (64U << 10) /* one string inside a message */
#define DF_COUNTERS_MAX 256             /* named counters of one result */
#define DF_READ_DONE_MAX 32768 /* ranges of ordinals in one READ; the coordinator joins or leaves out beyond it */
#define DF_INFO_CELLS_MAX                                                                                              \
	1024 /* cells over which what readers said is added up: the precision with which a change is placed */
#define DF_RESULT_HWM 4 /* messages queued per worker to the sink, on each side */
#define DF_LANE_HWM (4 * (DF_LANE_CREDITS + DF_LANE_REDO_CREDITS) + 64)
#define DF_READER_CREDIT_BYTES (2U << 20) /* a reader may have this much unread at the coordinator */
#define DF_READER_TOTAL_BYTES (8U << 20)  /* cells from readers held by the coordinator, all readers */

/* --- the sink --- */
#define DF_STAGED_BYTES_MAX (8U << 20) /* results of unfinished leases held in memory, all lanes; more goes to a file */
#define DF_ORDER_WINDOW_BYTES (64U << 20) /* -k: results waiting for their turn */
#define DF_COMMIT_MS 200
#define DF_COMMIT_BYTES (64U << 20)
#define DF_PART_BYTES (UINT64_C(1) << 30) /* default part size; user: --part-size */
#define DF_JOURNAL_PIECE 4096
#define DF_JOURNAL_RECORD_MAX (16U << 20)

/* While a commit is in flight, the next may grow to this many times DF_COMMIT_BYTES and this many ranges (12.6 MB of a record):
 * then the sink reads no more results. */
#define DF_BATCH_COMMITS_MAX 4
#define DF_BATCH_RANGES_MAX 200000

/* Source states with their messages, and strikes, in one commit; more wait for the next. */
#define DF_COMMIT_NOTE_BYTES (2U << 20)
#define DF_COMMIT_STRIKES 10000

/* --- pipelines --- */
#define DF_STAGES_MAX 64
#define DF_PIPELINE_BYTES_MAX (1U << 20)
#define DF_ROWS_PER_DOC_MAX 10000000U /* rows (chunks) of one document; user: chunk max_chunks= */

/* --- processes --- */
#define DF_DOC_TIMEOUT_DEFAULT "60s" /* user: --doc-timeout */
#define DF_MAX_ERRORS_SAMPLE 1000    /* documents before a percentage of errors means anything */
#define DF_RESPAWNS_MAX 3            /* lives of a coordinator without progress, before its guard gives up */
#define DF_GUARD_PATIENCE_MS 5000    /* for a coordinator that was asked to stop a second time */
#define DF_SPAWN_BACKOFF_MS 10       /* after a process that died without finishing anything; doubles up to ... */
#define DF_SPAWN_BACKOFF_MAX_MS 1000
#define DF_STALE_DIRS_MAX 64    /* folders of sockets that a start removes after runs that were killed ... */
#define DF_STALE_LOOK_MAX 16384 /* ... and names that it looks at to find them */
#define DF_BARREN_MS 10000      /* without progress, before kills in a row mean that nothing can live */
#define DF_REAP_MS 10000        /* a killed process that is still there is taken as gone */
#define DF_WATCH_MS                                                                                                    \
	100 /* between looks at the processes; with half of the memory in use; with three quarters half of that */
#define DF_WATCH_HOT_MS 25
#define DF_STALL_MS 600000 /* nothing at all has moved: the run ends (or four deadlines, when that is more) */
#define DF_HELLO_MS 1000
#define DF_SILENT_MS 10000 /* a peer silent for this long is retired */
#define DF_WORKERS_MAX 1024
#define DF_READERS_MAX 8 /* at the same time */
#define DF_COORDINATOR_BYTES                                                                                           \
	(48U << 20) /* of the run's memory, kept for the coordinator: an eighth, within these two */
#define DF_COORDINATOR_BYTES_MAX (512U << 20)
#define DF_CHILD_BYTES_MIN (16U << 20) /* a child's share of --mem-limit must not be less */
#define DF_SPAWN_FAILURES_MAX 5        /* deaths in a row without a finished lease before the run gives up */
#define DF_READ_PATHS_MAX 64    /* files and folders that a child may read, by name; beyond it their folders' folders */
#define DF_READ_STALL_MS 120000 /* a reader that gets no byte of its input for this long is given up */
#define DF_STDIN_SILENCE_MS 10  /* a partial cell of stdin is flushed after this silence */
#define DF_IPC_PATH_MAX 107

#endif
