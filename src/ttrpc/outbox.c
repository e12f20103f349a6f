/* SPDX-License-Identifier: Apache-2.0 */
#include "ttrpc/outbox.h"

#include <stdlib.h>

struct outbox_item {
    struct outbox_item *next;
    uint8_t *frame;
    size_t len;
};

void outbox_init(struct outbox *o, struct transport *t) {
    *o = (struct outbox){.transport = t};
    o->end = &o->first;
}

static void drop_first(struct outbox *o) {
    struct outbox_item *i = o->first;
    o->first = i->next;
    if (!o->first)
        o->end = &o->first;
    o->len -= i->len;
    free(i->frame);
    free(i);
}

static int keep(struct outbox *o, uint8_t **frame, size_t len, struct err *err) {
    /* An item costs more than its bytes when these are few. */
    size_t size = len + sizeof(struct outbox_item);
    size_t max = len <= OUTBOX_SMALL ? OUTBOX_MAX + OUTBOX_RESERVE : OUTBOX_MAX;
    if (o->len + size > max)
        return err_set(err, ENOBUFS, "the peer takes nothing: %zu bytes wait, the limit is %zu", o->len, max);
    struct outbox_item *i = calloc(1, sizeof(*i));
    if (!i)
        return err_errno(err, ENOMEM, "queueing %zu bytes", len);
    i->frame = TAKE_PTR(*frame);
    i->len = size;
    *o->end = i;
    o->end = &i->next;
    o->len += size;
    return 0;
}

int outbox_send(struct outbox *o, uint8_t *frame, size_t len, const int *fds, size_t n_fds, struct err *err) {
    cleanup_free uint8_t *f = frame;
    if (o->first && n_fds > 0)
        return err_set(err, ENOBUFS, "the peer takes nothing: %zu bytes wait", o->len);
    if (o->first)
        return keep(o, &f, len, err);
    struct err full = ERR_INIT;
    int r = transport_send_fds(o->transport, f, len, fds, n_fds, &full);
    if (r == -ENOBUFS && n_fds == 0)
        return keep(o, &f, len, err);
    return r < 0 ? err_copy(err, &full) : 0;
}

void outbox_push(struct outbox *o) {
    while (o->first) {
        /* -ENOBUFS: drained() comes again. Else the stream is over and its owner hears of it. */
        size_t len = o->first->len - sizeof(struct outbox_item);
        if (transport_send(o->transport, o->first->frame, len, NULL) < 0)
            return;
        drop_first(o);
    }
}

int outbox_flush(struct outbox *o, uint64_t timeout_usec) {
    uint64_t start = now_usec();
    for (;;) {
        uint64_t passed = now_usec() - start;
        int r = transport_flush(o->transport, passed < timeout_usec ? timeout_usec - passed : 0);
        if (r < 0 || !o->first)
            return r;
        size_t before = o->len;
        outbox_push(o);
        if (o->len == before)
            return -ENOTCONN; /* its queue is empty and it takes nothing */
    }
}

void outbox_clear(struct outbox *o) {
    while (o->first)
        drop_first(o);
}
