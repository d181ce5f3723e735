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
/* Of a pipeline that waits for the network: leases in work at once in one worker, each on a thread of its own; its credits; cells of one lease. */
#define DF_NETWORK_LEASES 512
#define DF_NETWORK_LEASES_SURE                                                                                         \
	128 /* so many whatever they hold; further ones while calls that are out have less than DF_CALLS_BYTES of text */
#define DF_LANE_CREDITS_NETWORK DF_NETWORK_LEASES
#define DF_NETWORK_CELLS_MAX 4
#define DF_SUSPECT_KILLS 2       /* by strangers over one and the same cell, before it runs alone */
#define DF_STRIKES_MAX 3         /* deaths of a record that is alone before it is poisoned */
#define DF_POISON_PER_LEASE 4096 /* and of a run: beyond it the pipeline is at fault, not the records */
#define DF_CRASHES_MAX 10        /* of workers over one cell, outside of documents, before the run gives up */
#define DF_LANES_MAX 4096

/* --- records --- */
#define DF_RECORD_BYTES (8U << 20) /* default of --max-record */
#define DF_RECORD_BYTES_MAX (1U << 30)
#define DF_RECORD_PADDING 64      /* readable bytes behind a record, for vector loads */
#define DF_BLOCK_BYTES (1U << 20) /* a worker reads and processes this much at a time */
#define DF_BLOCK_RECORDS 4096     /* records of one batch */
/* The same where many leases are in work at once; as much as a cell where --cell-size makes them larger, with as many records as one request of embeddings takes. */
#define DF_NETWORK_BLOCK_BYTES (32U << 10)
#define DF_NETWORK_BLOCK_RECORDS 512
#define DF_NETWORK_BLOCK_RECORDS_MAX 2048
#define DF_NETWORK_STACK_BYTES (512U << 10)
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
#define DF_REJECT_EXAMPLES_MAX 16       /* kinds of rejects of which one document is shown */
#define DF_EXAMPLE_ID_BYTES 80U
#define DF_EXAMPLE_MESSAGE_BYTES 300U
#define DF_READ_DONE_MAX 32768 /* ranges of ordinals in one READ; the coordinator joins or leaves out beyond it */
#define DF_INFO_CELLS_MAX                                                                                              \
	1024 /* cells over which what readers said is added up: the precision with which a change is placed */
#define DF_RESULT_HWM 4 /* messages queued per worker to the sink, on each side */
#define DF_LANE_HWM (4 * (DF_LANE_CREDITS_NETWORK + DF_LANE_REDO_CREDITS) + 64)
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

/* --- prompts --- */
#define DF_TEMPLATE_BYTES (256U << 10)
#define DF_TEMPLATE_PLACES 1024U
#define DF_PROMPT_BYTES (16U << 20) /* of one row, filled in */

/* --- schemas --- */
#define DF_SCHEMA_BYTES (1U << 20)          /* text of a JSON schema */
#define DF_SCHEMA_MEMORY_BYTES (256U << 20) /* of its compiled form */
#define DF_SCHEMA_DEPTH 320                 /* schemas within schemas while one value is checked, references counted */
#define DF_SCHEMA_WORK 20000000U            /* steps of one check: about a second */
#define DF_SCHEMA_PATTERN_BYTES 4096U
#define DF_SCHEMA_MATCH_STEPS 100000U /* of one match of a pattern, and 64 for each byte of the text */
#define DF_SCHEMA_ERRORS 8            /* told of one value */

/* --- pipelines --- */
#define DF_STAGES_MAX 64
#define DF_PIPELINE_BYTES_MAX (1U << 20)
#define DF_ROWS_PER_DOC_MAX 10000000U /* rows (chunks) of one document; user: chunk max_chunks= */

/* --- providers --- */
#define DF_REQUEST_BYTES_MAX (64U << 20) /* body of one request */
#define DF_ANSWER_TEXT_MAX (16U << 20)   /* text of one streamed answer */
#define DF_ANSWER_CHECK_BYTES                                                                                          \
	(256U << 20)             /* memory in which one answer is checked against its schema: two million values */
#define DF_ANTHROPIC_TOKENS 4096 /* max_tokens of an ask that names none: the API wants one */
#define DF_MODEL_ROWS_MAX 10000U /* of a user's table of models */
#define DF_CASSETTE_BYTES_MAX (256U << 20)
#define DF_CASSETTE_LINES_MAX 1000000U

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

/* --- the cache of answers --- */
#define DF_CACHE_FLUSH_MS 5               /* a put waits so long for others, to be written with them */
#define DF_CACHE_VALUE_BYTES (16U << 20)  /* larger values are not kept */
#define DF_CACHE_QUEUE_BYTES (32U << 20)  /* puts that wait for the disk; beyond it they stay in memory alone */
#define DF_CACHE_BATCH 128                /* of them in one transaction: about 2 ms */
#define DF_CACHE_YIELD_US 500             /* between two transactions in a row, so that other processes come in */
#define DF_CACHE_EVICT_STEP 64            /* entries that leave the disk in one transaction, beside twice what came */
#define DF_CACHE_LOOK_MS 100              /* a row of look-ups sees the cache as it was so long ago at most */
#define DF_CACHE_WAL_PAGES 4000           /* of the log before a checkpoint ... */
#define DF_CACHE_WAL_PAGES_MAX (8U << 10) /* ... and before one that makes writers wait for it (64 MB) */
#define DF_CACHE_BUSY_MS 5000             /* a writer waits so long for other processes, then tries again later */
#define DF_CACHE_READ_BUSY_MS 250         /* a reader; then it is a miss */
#define DF_CACHE_CLOSE_MS 1500      /* who closes waits so long for other processes, then says what was not written */
#define DF_CACHE_OPEN_BUSY_MS 10000 /* somebody else is opening or mending it */
#define DF_CACHE_AGAIN_MS 60000     /* after a disk was full, until it is tried again */
#define DF_CACHE_TOTALS_MS 1000     /* counts of hits and misses are written so often */

/* --- the trace --- */
#define DF_TRACE_FLUSH_MS 100
#define DF_TRACE_WRITE_BYTES (64U << 10) /* one write */
#define DF_TRACE_BUFFER_BYTES (4U << 20) /* spans that wait to be written; beyond it they are left out */
#define DF_TRACE_SPANS_MAX (64U << 20)   /* of a file that is read */
#define DF_TRACE_BATCH 512               /* spans of one export request */
#define DF_TRACE_EXPORT_ATTEMPTS 6
#define DF_TRACE_EXPORT_MS 30000      /* of one request */
#define DF_TRACE_RUN_QUIET_MS 10000   /* how long `run` waits for a receiver that takes nothing, when the run is over */
#define DF_TRACE_RUN_TOTAL_MS 60000   /* ... and for one that does */
#define DF_TRACE_QUIET_MS 60000       /* how long `docflume trace` does */
#define DF_TRACE_QUIET_MAX_MS 600000U /* that may be asked for */
#define DF_TRACE_UNREACHABLE_MS 2000  /* who cannot be connected to is tried for */

/* --- calls of APIs --- */
#define DF_CALLS_IN_FLIGHT 4096 /* of one model, in one process, when nothing smaller is set */
#define DF_CALLS_OF_WORKER 512 /* a pipeline that only asks models gets a worker for each so many in flight; user: -j */
/* Calls that wait beside those in flight, before a worker begins no further lease; it looks again after LOOK_MS, doubled up to LOOK_MAX_MS. */
#define DF_CALLS_WAITING 256
#define DF_CALLS_WAITING_MANY 64     /* the same above DF_NETWORK_LEASES_SURE leases in work */
#define DF_CALLS_BYTES (32ULL << 20) /* of text: 512 documents of 64 KB */
#define DF_CALLS_LOOK_MS 5
#define DF_CALLS_LOOK_MAX_MS 20
#define DF_CALLS_LEAVE_MS                                                                                              \
	1000 /* a worker that is told to go, by a run that did not stop before: its calls have so long to be answered */
#define DF_CALLS_KEEP_MS 1000 /* and what was answered so long to come to the cache on disk, when threads do not end */
#define DF_CALLS_END_MS 4000  /* both, and a thread's way out: then the coordinator kills */
#define DF_CALLS_HURRY_MS 500 /* the same when the run is left at once */
#define DF_CALL_AHEAD_MS 50   /* reservations are made so far ahead of their time, so that a late timer loses no rate */
#define DF_CALL_SLOT_MS 10    /* between looks for a slot while other processes have them all */
#define DF_CALL_PURSE_MS 50   /* between looks at a budget that others have reserved ... */
#define DF_CALL_PURSE_PATIENCE_MS                                                                                      \
	30000 /* ... until nothing has moved in it for so long, and nobody who lives holds any of it */
#define DF_CALL_PURSE_LOOKS                                                                                            \
	1024 /* calls in a queue that are looked at for one that the rest of a budget suffices for */
#define DF_CALL_ANSWER_TOKENS                                                                                          \
	4096 /* of an answer whose length nothing bounds: held for it while it is out, where no budget hangs on it */
#define DF_PURSE_SYNC_MS 1000            /* what is spent lasts through a power cut so much later */
#define DF_CALL_SCRATCH_BYTES (1U << 30) /* parsing one answer */
#define DF_CALL_SCRATCH_KEEP (4U << 20)
#define DF_CALL_AWAY_MS 3600000 /* a pause that a server may ask for; with a longer one its model is over for the run */
#define DF_CALL_TOKENS_OUT 512  /* of an answer without max_tokens, for limits per minute alone: settled afterwards */
#define DF_RETRY_QUOTA 500      /* as the AWS SDKs */
#define DF_RETRY_COST 5
#define DF_RETRY_COST_TIMEOUT 10
#define DF_RATE_ANSWERS_MAX 20 /* 429 of one call on one model */
#define DF_RATE_ALONE 8        /* 429 and nothing else from one model, ... */
#define DF_RATE_ALONE_MS 15000 /* ... for so long: calls that have fall-backs go there */
#define DF_RATE_CALM 3         /* of them without a back-off of the call's own */
#define DF_BREAKER_FAILURES 10
#define DF_BREAKER_PAUSE_MS 1000
#define DF_BREAKER_PAUSE_MAX_MS 30000
#define DF_BREAKER_PATIENCE_MS                                                                                         \
	600000 /* with a host that answers nothing, before the run ends; the same command goes on */
#define DF_BREAKER_UNKNOWN_FAILURES                                                                                    \
	3 /* of a host that was never reached: perhaps its name is misspelt, or nobody listens */
#define DF_BREAKER_UNKNOWN_PATIENCE_MS 60000
#define DF_BREAKER_ROUTE_PAUSE_MAX_MS                                                                                  \
	8000 /* of a model that answers with errors: somebody is there, and may fail on some documents alone */
#define DF_HOST_SILENT_MS 2000 /* without an answer, before people are told */
#define DF_HOST_TELL_MS 30000  /* at most one such word about a host in this time */
#define DF_KEY_BYTES_MAX 4096

/* --- batches --- */
#define DF_BATCH_LINES_MAX 50000          /* of one file of requests, as providers allow */
#define DF_BATCH_INLINE_LINES_MAX 100000  /* of one batch of Anthropic's */
#define DF_BATCH_BYTES_MAX 200000000      /* the same: 200 MB, the smaller ones */
#define DF_BATCH_FILES_MAX 10000          /* of one run */
#define DF_BATCH_REQUESTS_MAX (16U << 20) /* different ones of one run: 48 bytes each in memory, twice that at worst */
#define DF_BATCH_LINE_BYTES (256U << 20)  /* of an answer */
#define DF_BATCH_ROUNDS_MAX 64            /* of one run: repairs, retries, what expired */

/* --- the network --- */
#define DF_HTTP_CONNECTIONS 4096 /* open at once; less where the limit of descriptors is less */
#define DF_HTTP_SHARE 32   /* connections of one multi handle of libcurl, which looks at all of them for each request */
#define DF_HTTP_STREAMS 32 /* requests of an HTTP/2 connection, before one more is opened for others */
#define DF_HTTP_REQUESTS_MAX (1U << 20)  /* in flight or waiting for a connection */
#define DF_HTTP_BODY_MAX (128U << 20)    /* of an answer, decoded */
#define DF_HTTP_HEAD_BYTES (256U << 10)  /* of an answer: status line, headers, trailers */
#define DF_HTTP_SEND_BYTES (256U << 20)  /* of a request: URL, headers, body */
#define DF_HTTP_RECEIVE_BYTES (4U << 10) /* read from a socket at once; each request in flight has so much */
#define DF_HTTP_UPLOAD_BYTES (16U << 10) /* the same for what is sent over TLS: the least that libcurl takes */
#define DF_HTTP_KEEP_BYTES 4096U         /* a buffer not larger than this is kept for the next request */
#define DF_HTTP_HOSTS_MAX 256            /* remembered: look-up made, HTTP/2 spoken */
#define DF_HTTP_NAME_SECONDS 120         /* an address that was looked up is used so long */
#define DF_SSE_EVENT_MAX (16U << 20)     /* data of one event */
#define DF_STREAM_LINGER_MS 2000         /* what may come behind a stream's end event: usage, the end of the body */
#define DF_PLAIN_STREAM_MAX (32U << 20)  /* a whole answer where a stream was asked for */

#endif
