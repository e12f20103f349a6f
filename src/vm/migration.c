/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/migration.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/util.h"

#define FDSET 9 /* its number in QEMU */
#define URI "file:/dev/fdset/9"

#define SETTLE_USEC (5 * USEC_PER_MSEC) /* between two questions whether QEMU is through with the transfer */

enum step { STEP_STOP, STEP_CAPABILITIES, STEP_FD, STEP_GO, STEP_WAIT, STEP_REMOVE_FD, STEP_SETTLE, STEP_DONE };

struct migration {
    sd_event *event;
    struct qmp *q;
    enum migration_direction direction;
    enum step step;
    int fd;
    bool ended; /* QEMU said so; may come before the answer to the command */
    struct err err;
    sd_event_source *deadline, *settle;
    migration_done_fn done;
    void *userdata;
    unsigned pending; /* commands whose answers will come here */
    bool freed;       /* by its owner; the last answer frees it */
};

static void run_step(struct migration *m);

static void finish(struct migration *m) {
    migration_done_fn done = m->done;
    m->deadline = sd_event_source_disable_unref(m->deadline);
    m->settle = sd_event_source_disable_unref(m->settle);
    m->fd = fd_close(m->fd); /* the object may be kept for long */
    m->step = STEP_DONE;
    m->done = NULL;
    if (done)
        done(m->userdata, m->err.code ? &m->err : NULL);
}

/* The first error counts. The descriptor that QEMU has goes with it. */
static void fail(struct migration *m, const struct err *err) {
    if (m->err.code == 0) {
        m->err = *err;
        err_wrap(&m->err, m->direction == MIGRATION_SAVE ? "cannot save the state of the devices"
                                                         : "cannot load the state of the devices");
    }
    if (m->step <= STEP_FD || m->step >= STEP_REMOVE_FD) { /* QEMU has no descriptor of ours */
        finish(m);
        return;
    }
    m->step = STEP_REMOVE_FD;
    run_step(m);
}

static void next_step(struct migration *m) {
    m->step++;
    if (m->step == STEP_WAIT && m->ended)
        m->step++;
    run_step(m);
}

/* False: nobody is interested any more. */
static bool answered(struct migration *m) {
    m->pending--;
    if (m->freed && m->pending == 0)
        free(m);
    else if (!m->freed && m->step != STEP_DONE)
        return true;
    return false;
}

static void on_reply(void *userdata, const json_t *ret, const struct err *err) {
    struct migration *m = userdata;
    (void)ret;
    if (!answered(m))
        return;
    if (m->step == STEP_REMOVE_FD && m->direction == MIGRATION_LOAD)
        finish(m); /* that the descriptor could not be removed hurts nobody */
    else if (m->step != STEP_REMOVE_FD && err)
        fail(m, err);
    else
        next_step(m);
}

/* query-migrate after a failure. */
static void on_status(void *userdata, const json_t *ret, const struct err *err) {
    struct migration *m = userdata;
    if (!answered(m))
        return;
    const char *why = ret ? json_string_value(json_object_get(ret, "error-desc")) : NULL;
    struct err e = ERR_INIT;
    err_set(&e, EIO, "QEMU: %s", why ? why : err ? err->msg : "the transfer failed");
    fail(m, &e);
}

static int on_settle_again(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)source;
    (void)usec;
    run_step(userdata);
    return 0;
}

/* The end of a save is announced before QEMU has left the state "finish-migrate", in which it refuses cont, and no
 * event tells when it has. */
static void on_run_state(void *userdata, const json_t *ret, const struct err *err) {
    struct migration *m = userdata;
    if (!answered(m))
        return;
    const char *status = err ? NULL : json_string_value(json_object_get(ret, "status"));
    if (!status || strcmp(status, "finish-migrate") != 0) {
        finish(m);
        return;
    }
    m->settle = sd_event_source_disable_unref(m->settle);
    if (sd_event_add_time_relative(m->event, &m->settle, CLOCK_MONOTONIC, SETTLE_USEC, 0, on_settle_again, m) < 0)
        finish(m);
}

static json_t *capability(const char *name) {
    return json_pack("{s:s,s:b}", "capability", name, "state", 1);
}

static int command(struct migration *m, const char *name, json_t *args, int fd, qmp_reply_fn fn, struct err *err) {
    int r = fd >= 0 ? qmp_command_fd(m->q, name, args, fd, MIGRATION_USEC, fn, m, err)
                    : qmp_command(m->q, name, args, MIGRATION_USEC, fn, m, err);
    if (r >= 0)
        m->pending++;
    return r;
}

static int send_step(struct migration *m, struct err *err) {
    switch (m->step) {
    case STEP_STOP:
        return command(m, "stop", NULL, -1, on_reply, err);
    case STEP_CAPABILITIES:
        return command(m, "migrate-set-capabilities",
                       json_pack("{s:[o,o]}", "capabilities", capability("events"), capability("x-ignore-shared")), -1,
                       on_reply, err);
    case STEP_FD:
        return command(m, "add-fd", json_pack("{s:i}", "fdset-id", FDSET), m->fd, on_reply, err);
    case STEP_GO:
        return command(m, m->direction == MIGRATION_SAVE ? "migrate" : "migrate-incoming",
                       json_pack("{s:s}", "uri", URI), -1, on_reply, err);
    case STEP_REMOVE_FD:
        return command(m, "remove-fd", json_pack("{s:i}", "fdset-id", FDSET), -1, on_reply, err);
    case STEP_SETTLE:
        return command(m, "query-status", NULL, -1, on_run_state, err);
    case STEP_WAIT:
    case STEP_DONE:
        break;
    }
    return 0;
}

static void run_step(struct migration *m) {
    struct err err = ERR_INIT;
    if (send_step(m, &err) < 0)
        fail(m, &err);
}

void migration_event(struct migration *m, const char *name, const json_t *data) {
    if (!m || m->step < STEP_GO || m->step > STEP_WAIT || strcmp(name, "MIGRATION") != 0)
        return;
    const char *status = json_string_value(json_object_get(data, "status"));
    struct err err = ERR_INIT;
    if (!status)
        return;
    if (strcmp(status, "completed") == 0) {
        m->ended = true;
        if (m->step == STEP_WAIT)
            next_step(m);
    } else if (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0) {
        if (command(m, "query-migrate", NULL, -1, on_status, &err) < 0)
            fail(m, &err);
    }
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
    (void)usec;
    struct migration *m = userdata;
    struct err err = ERR_INIT;
    if (m->err.code) { /* it did not come to rest either */
        finish(m);
        return 0;
    }
    if (sd_event_source_set_time_relative(source, MIGRATION_USEC) >= 0)
        (void)sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
    err_set(&err, ETIMEDOUT, "QEMU did not end the transfer within %u s", (unsigned)(MIGRATION_USEC / USEC_PER_SEC));
    (void)qmp_command(m->q, "migrate_cancel", NULL, MIGRATION_USEC, NULL, NULL, NULL);
    fail(m, &err);
    return 0;
}

int migration_start(sd_event *event, struct qmp *q, enum migration_direction direction, int state_fd,
                    migration_done_fn done, void *userdata, struct migration **ret, struct err *err) {
    struct migration *m = calloc(1, sizeof(*m));
    if (!m)
        return err_set(err, ENOMEM, "out of memory");
    *m = (struct migration){.event = event, .q = q, .direction = direction, .done = done, .userdata = userdata};
    m->step = direction == MIGRATION_SAVE ? STEP_STOP : STEP_CAPABILITIES;
    m->fd = fcntl(state_fd, F_DUPFD_CLOEXEC, 3);
    int r = m->fd < 0 ? err_errno(err, errno, "cannot keep the file of the device state") : 0;
    if (r == 0) {
        r = sd_event_add_time_relative(event, &m->deadline, CLOCK_MONOTONIC, MIGRATION_USEC, 0, on_deadline, m);
        r = r < 0 ? err_errno(err, -r, "cannot set a timer") : send_step(m, err);
    }
    if (r < 0) {
        migration_free(m);
        return r;
    }
    *ret = m;
    return 0;
}

struct migration *migration_free(struct migration *m) {
    if (!m)
        return NULL;
    m->step = STEP_DONE;
    m->done = NULL;
    m->deadline = sd_event_source_disable_unref(m->deadline);
    m->settle = sd_event_source_disable_unref(m->settle);
    m->fd = fd_close(m->fd);
    m->freed = true;
    if (m->pending == 0)
        free(m);
    return NULL;
}
