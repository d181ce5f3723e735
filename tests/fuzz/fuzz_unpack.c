// SPDX-License-Identifier: Apache-2.0
/*
 * fuzz_unpack: any bytes as a header frame. What is accepted must pack again, and what was packed must come back as the same bytes.
 */
#include <stdlib.h>

#include "proto/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const struct df_msg *msg, struct df_arena *arena)
{
	struct df_buf one, two;
	struct df_msg back;
	df_buf_init(&one, 8U << 20);
	df_buf_init(&two, 8U << 20);
	DF_ASSERT(df_msg_pack(msg, &one) == DF_OK);
	DF_ASSERT(df_msg_unpack(df_buf_str(&one), arena, &back, NULL) == DF_OK);
	DF_ASSERT(df_msg_pack(&back, &two) == DF_OK);
	DF_ASSERT(df_str_eq(df_buf_str(&one), df_buf_str(&two)));
	df_buf_release(&one);
	df_buf_release(&two);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct df_arena arena;
	struct df_msg msg;
	struct df_fail fail;
	struct df_str frame = {(const char *)data, size};
	df_arena_init(&arena, 64U << 20, 0);
	enum df_err checked = df_unpack_check(frame, &fail);
	enum df_err err = df_msg_unpack(frame, &arena, &msg, &fail);
	DF_ASSERT(checked == DF_OK || err == checked);
	DF_ASSERT(err == DF_OK || err == DF_ERR_PARSE || err == DF_ERR_LIMIT || err == DF_ERR_VERSION);
	if (err == DF_OK)
		again(&msg, &arena);
	df_arena_release(&arena);
	return 0;
}
