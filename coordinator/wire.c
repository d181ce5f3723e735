// SPDX-License-Identifier: Apache-2.0
/* wire: a private directory of socket files, and a small table from lane to socket. */
#include "coordinator/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/array.h"
#include "base/limits.h"

const char *df_wire_endpoint(const struct df_wire *w, const char *name, char out[128])
{
	(void)snprintf(out, 128, "ipc://%s/%s", w->dir.path, name);
	return out;
}

static enum df_err listen_on(struct df_wire *w, const char *name, enum df_socket_kind kind, int hwm,
			     struct df_socket **ret_socket, struct df_fail *fail)
{
	char endpoint[128];
	return df_socket_listen(w->link, kind, df_wire_endpoint(w, name, endpoint), hwm, ret_socket, fail);
}

enum df_err df_wire_open(struct df_wire *w, uint32_t n_lane_max, struct df_life *life, struct df_fail *fail)
{
	*w = (struct df_wire){0};
	df_buf_init(&w->header, DF_HEADER_BYTES_MAX);
	enum df_err err = df_socket_dir_make(life, &w->dir, fail);
	if (err == DF_OK)
		err = df_link_open((int)n_lane_max * 2 + 64, &w->link, fail);
	if (err == DF_OK)
		err = listen_on(w, "control", DF_SOCKET_PULL, 1024, &w->control, fail);
	if (err == DF_OK)
		err = listen_on(w, "bulk", DF_SOCKET_PULL, DF_RESULT_HWM, &w->bulk, fail);
	if (err == DF_OK)
		err = listen_on(w, "notices", DF_SOCKET_PUB, 64, &w->notices, fail);
	if (err == DF_OK)
		err = listen_on(w, "results", DF_SOCKET_PULL, DF_RESULT_HWM, &w->results, fail);
	if (err != DF_OK)
		df_wire_close(w);
	return err;
}

void df_wire_remove_dir(struct df_wire *w)
{
	df_socket_dir_remove(&w->dir);
}

void df_wire_close(struct df_wire *w)
{
	for (size_t i = 0; i < w->n_lane; i++)
		df_socket_close(&w->lane[i].socket);
	df_socket_close(&w->control);
	df_socket_close(&w->bulk);
	df_socket_close(&w->notices);
	df_socket_close(&w->results);
	df_link_close(&w->link);
	free(w->lane);
	df_buf_release(&w->header);
	df_wire_remove_dir(w);
	*w = (struct df_wire){0};
}

enum df_err df_wire_add_lane(struct df_wire *w, uint64_t lane, char ret_endpoint[128], struct df_fail *fail)
{
	char name[32];
	if (df_array_room((void **)&w->lane, w->n_lane, &w->cap_lane, sizeof(*w->lane)) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a lane");
	struct df_lane_socket l = {.lane = lane};
	(void)snprintf(name, sizeof(name), "lane-%llx", (unsigned long long)lane);
	enum df_err err = listen_on(w, name, DF_SOCKET_PUSH, DF_LANE_HWM, &l.socket, fail);
	if (err != DF_OK && access(w->dir.path, F_OK) < 0 && errno == ENOENT)
		return df_fail(
			fail, err,
			"the folder of this run's sockets, '%s', was removed (by whatever cleans up there): no process "
			"can be started any more; the same command goes on in another",
			w->dir.path);
	DF_TRY(err);
	w->lane[w->n_lane++] = l;
	(void)df_wire_endpoint(w, name, ret_endpoint);
	return DF_OK;
}

static struct df_lane_socket *find(struct df_wire *w, uint64_t lane)
{
	for (size_t i = 0; i < w->n_lane; i++)
		if (w->lane[i].lane == lane)
			return &w->lane[i];
	return NULL;
}

void df_wire_close_lane(struct df_wire *w, uint64_t lane)
{
	struct df_lane_socket *l = find(w, lane);
	if (!l)
		return;
	df_socket_close(&l->socket);
	*l = w->lane[--w->n_lane];
}

enum df_err df_wire_send(struct df_wire *w, uint64_t lane, const struct df_msg *msg, struct df_blob *const *payload,
			 size_t n)
{
	struct df_lane_socket *l = find(w, lane);
	if (!l)
		return DF_ERR_AGAIN;
	df_buf_reset(&w->header);
	DF_TRY(df_msg_pack(msg, &w->header));
	return df_socket_send(l->socket, df_buf_str(&w->header), payload, n);
}

void df_wire_notice(struct df_wire *w, uint32_t epoch, enum df_run_state state)
{
	struct df_msg msg = {.type = DF_MSG_NOTICE, .epoch = epoch};
	msg.notice = (struct df_notice){.seq = ++w->notice_seq, .state = state};
	df_buf_reset(&w->header);
	if (df_msg_pack(&msg, &w->header) == DF_OK) {
		enum df_err ignored =
			df_socket_send(w->notices, df_buf_str(&w->header), NULL, 0); /* repeated each beat */
		(void)ignored;
	}
}
