// SPDX-License-Identifier: Apache-2.0
/*
 * help_world: a data set that exists only as numbers, and what must become of each of its records.
 *
 * A source is a list of records (first byte, fate); plain sources are cut into cells by bytes (a record belongs to the cell in
 * which its first byte lies, so some cells have none), readers' sources by records. All follows from the seed.
 */
#ifndef DF_TESTS_SIM_HELP_WORLD_H
#define DF_TESTS_SIM_HELP_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "coordinator/cells/dataset.h"
#include "proto/messages.h"

enum fate {
	FATE_OUT,
	FATE_FILTERED,
	FATE_REJECTED,
	/* these end as rejected: each time a worker touches one, the worker */
	FATE_KILLER, /* crashes */
	FATE_HANGER, /* computes for ever */
	FATE_HOG,    /* takes more memory than the run may */
	N_FATE
};

struct world_record {
	uint64_t offset, length;
	enum fate fate;
	uint32_t deaths; /* by crashes over it alone, as the journal knows them and since */
};

enum ending {
	END_WELL,
	END_BROKEN,    /* plain: from some moment on every lease with a cell of it is answered FAILED */
	END_TRUNCATED, /* reader: a source error behind cell `at` */
	END_DEADLY,    /* reader: its process dies each time behind cell `at` */
};

struct world_source {
	enum df_source_kind kind;
	struct world_record *record;
	size_t n_record;
	uint64_t size_bytes;
	enum ending ending;
	uint64_t at;
	char name[24];
	/* with content: */
	char *content; /* size_bytes */
	int fd;
	char path[32];
};

struct world {
	struct df_rand rnd;
	uint64_t rnd_state;
	uint64_t cell_bytes;
	struct world_source *source;
	uint32_t n_source;
	bool ordered, sequential;
	bool content; /* records have bytes, see help_content.h */
	uint64_t skip, limit;
	/* of its workers */
	uint64_t remote_percent;
	uint64_t slow_once_in; /* 0: none */
	uint64_t doc_timeout_ns, mem_limit;
	struct df_dataset dataset; /* of the same sources */
};

/* A number below n. */
uint64_t world_roll(struct world *w, uint64_t n);
/* True once in n. */
bool world_once_in(struct world *w, uint64_t n);

void world_init(struct world *w, uint64_t seed, bool content);
void world_release(struct world *w);

/* NULL: there is none. */
struct world_record *world_record_at(const struct world *w, struct df_record_id id);
/* Records [first, end) of source s that are left when `skip` are passed over and at most `limit` taken. */
void world_window(const struct world *w, uint32_t s, uint64_t skip, uint64_t limit, size_t *ret_first, size_t *ret_end);
/* How the run's skip and limit fall on source s. */
void world_share(const struct world *w, uint32_t s, uint64_t *ret_skip, uint64_t *ret_limit);
/* Cell `cell` of a reader's source within that window: records [*ret_first, *ret_end); false behind the last. */
bool world_reader_cell(const struct world *w, uint32_t s, uint64_t skip, uint64_t limit, uint64_t cell,
		       size_t *ret_first, size_t *ret_end);
/* Records of a cell of any source, under the run's skip and limit. */
void world_cell(const struct world *w, uint32_t s, uint64_t cell, size_t *ret_first, size_t *ret_end);
/* Cells of source s in all. */
uint64_t world_n_cell(const struct world *w, uint32_t s);

#endif
