// SPDX-License-Identifier: Apache-2.0
/* pulse: a thread that wakes twice a second and mostly finds nothing to say. */
#include "worker/process/pulse.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"

#define NAP_NS (500 * DF_MS)

struct df_pulse {
	struct df_worker_link *link; /* of it: what never changes, and the slot's atomics */
	struct df_socket *control;   /* the thread's own */
	struct df_buf header;
	pthread_t thread;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t stopping;
	bool stop;
	const char *what; /* NULL: no step is under way */
	uint64_t since_ns;
	bool told;
};

/* Under the lock. */
static void look(struct df_pulse *p, uint64_t now_ns)
{
	uint64_t for_ns = p->what && now_ns > p->since_ns ? now_ns - p->since_ns : 0;
	if (for_ns < DF_HELLO_MS * DF_MS || for_ns > DF_READ_STALL_MS * DF_MS)
		return;
	if (for_ns > DF_SILENT_MS * DF_MS && !p->told) {
		p->told = true;
		df_warn("'%.300s' has not given a byte for %d s; waiting up to %d s for it", p->what,
			DF_SILENT_MS / 1000, DF_READ_STALL_MS / 1000);
	}
	df_worker_link_say_hello(p->link, p->control, &p->header, now_ns);
}

static void *run(void *arg)
{
	struct df_pulse *p = arg;
	(void)pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		struct timespec until;
		uint64_t at = df_clock_mono(&df_clock_real) + NAP_NS;
		until = (struct timespec){(time_t)(at / DF_SEC), (long)(at % DF_SEC)};
		(void)pthread_cond_timedwait(&p->stopping, &p->lock, &until);
		if (!p->stop)
			look(p, df_clock_mono(&df_clock_real));
	}
	(void)pthread_mutex_unlock(&p->lock);
	return NULL;
}

static enum df_err start_thread(struct df_pulse *p, struct df_fail *fail)
{
	pthread_condattr_t attr;
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_mutex_init(&p->lock, NULL);
	(void)pthread_cond_init(&p->stopping, &attr);
	(void)pthread_condattr_destroy(&attr);
	int code = pthread_create(&p->thread, NULL, run, p);
	if (code == 0)
		return DF_OK;
	(void)pthread_cond_destroy(&p->stopping);
	(void)pthread_mutex_destroy(&p->lock);
	return df_fail(fail, DF_ERR_NOMEM, "cannot start a thread for signs of life: %s", strerror(code));
}

enum df_err df_pulse_start(struct df_worker_link *link, struct df_pulse **ret_pulse, struct df_fail *fail)
{
	struct df_pulse *p = calloc(1, sizeof(*p));
	if (!p)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for signs of life");
	p->link = link;
	df_buf_init(&p->header, DF_HEADER_BYTES_MAX);
	enum df_err err =
		df_socket_connect(link->link, DF_SOCKET_PUSH, link->h->control_endpoint.p, 64, &p->control, fail);
	if (err == DF_OK)
		err = start_thread(p, fail);
	if (err != DF_OK) {
		df_socket_close(&p->control);
		free(p);
		return err;
	}
	*ret_pulse = p;
	return DF_OK;
}

void df_pulse_stop(struct df_pulse **pulse)
{
	struct df_pulse *p = *pulse;
	if (!p)
		return;
	(void)pthread_mutex_lock(&p->lock);
	p->stop = true;
	(void)pthread_cond_signal(&p->stopping);
	(void)pthread_mutex_unlock(&p->lock);
	(void)pthread_join(p->thread, NULL);
	(void)pthread_cond_destroy(&p->stopping);
	(void)pthread_mutex_destroy(&p->lock);
	df_socket_close(&p->control);
	df_buf_release(&p->header);
	free(p);
	*pulse = NULL;
}

void df_pulse_step(struct df_pulse *p, const char *what, uint64_t now_ns)
{
	(void)pthread_mutex_lock(&p->lock);
	p->what = what;
	p->since_ns = now_ns;
	p->told = false;
	(void)pthread_mutex_unlock(&p->lock);
}
