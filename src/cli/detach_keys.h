/* SPDX-License-Identifier: Apache-2.0 */
/* The keys that leave an attached process: a sequence, written as Podman and Docker do ("ctrl-p,ctrl-q"). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define DETACH_KEYS_DEFAULT "ctrl-p,ctrl-q"
#define DETACH_KEYS_MAX 16

struct detach_keys {
    char keys[DETACH_KEYS_MAX];
    size_t n;    /* 0: no key detaches */
    size_t held; /* of them typed, and not passed on yet */
};

/* Each is a character, or ctrl- and one of a-z @ [ \ ] ^ _; "" for none. -EINVAL. */
int detach_keys_parse(const char *text, struct detach_keys *ret, struct err *err);

/* What was typed goes through here: the beginning of a sequence is taken out of buf until it is known whether the rest
 * follows, and put back when it does not; buf has room for DETACH_KEYS_MAX bytes more. True: the sequence is complete.
 */
bool detach_keys_filter(struct detach_keys *k, char *buf, size_t *len);
