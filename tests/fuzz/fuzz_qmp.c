/* SPDX-License-Identifier: Apache-2.0 */
/* What QEMU may send to the QMP client, from the first byte on or after the handshake, with commands under way. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "vm/qmp.h"

#define COMMANDS 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    unsigned replies[COMMANDS], closed;
};

static struct seen seen;

static void on_reply(void *userdata, const json_t *ret, const struct err *err) {
    unsigned *calls = userdata;
    if (++*calls > 1 || !ret == !err || (err && err->code <= 0))
        abort();
}

static void on_event(void *userdata, const char *name, const json_t *data) {
    (void)userdata;
    if (!name || (data && !json_is_object(data)))
        abort();
}

static void on_closed(void *userdata, const struct err *err) {
    (void)userdata;
    if (++seen.closed > 1 || err->code <= 0)
        abort();
    for (int i = 0; i < COMMANDS; i++)
        if (seen.replies[i] != 1)
            abort(); /* all are told before this */
}

static const struct qmp_ops ops = {.event = on_event, .closed = on_closed};

static void run(sd_event *event) {
    while (sd_event_run(event, 0) > 0)
        ;
}

static void feed(sd_event *event, int peer, const uint8_t *data, size_t size, size_t step) {
    for (size_t off = 0; off < size && !seen.closed; off += step) {
        if (send(peer, data + off, MIN(step, size - off), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            break;
        run(event);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char shake[] = "{\"QMP\":{}}\n{\"return\":{},\"id\":0}\n";
    sd_event *event = NULL;
    struct qmp *qmp = NULL;
    int s[2];
    if (size < 2)
        return 0;
    seen = (struct seen){0};
    if (sd_event_new(&event) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0 ||
        qmp_new(event, s[0], "QMP", &ops, NULL, &qmp, NULL) < 0)
        abort();
    for (int i = 0; i < COMMANDS; i++)
        if (qmp_command(qmp, "query-migrate", NULL, 10 * USEC_PER_SEC, on_reply, &seen.replies[i], NULL) < 0)
            abort();
    if (data[0] & 1) {
        /* The negotiation is answered when it was asked for: after the greeting has been read. */
        const char *nl = strchr(shake, '\n') + 1;
        feed(event, s[1], (const uint8_t *)shake, (size_t)(nl - shake), SIZE_MAX / 2);
        feed(event, s[1], (const uint8_t *)nl, strlen(nl), SIZE_MAX / 2);
    }
    feed(event, s[1], data + 2, size - 2, 1 + (size_t)data[1] * 41);
    fd_close(s[1]);
    run(event);
    if (!seen.closed)
        abort(); /* the end of the stream is noticed */
    qmp_free(qmp);
    sd_event_unref(event);
    return 0;
}
