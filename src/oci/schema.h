/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the OCI configuration as tables: for each object its known fields, their types and bounds, and what
 * becomes of them in the guest. One table serves the check of the user's spec and the copy into the guest's: a field
 * that is not in it is never passed on.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/util.h"

#define OCI_STRING_MAX 131072 /* bytes of one string: the kernel's bound for one argument (MAX_ARG_STRLEN) */
#define OCI_LIST_MAX 4096     /* elements of a list that has no bound of its own */
#define OCI_PATH_TEXT_MAX 96  /* bytes of a JSON path in messages, "linux.seccomp.syscalls[17].names" */

enum field_kind {
    FIELD_STR,
    FIELD_BOOL,
    FIELD_INT,    /* min … max */
    FIELD_OBJ,    /* `fields` if known deeper */
    FIELD_STRS,   /* list of strings, at most max */
    FIELD_OBJS,   /* list of objects, at most max, each with `fields` */
    FIELD_INTS,   /* list of whole numbers 0 … 2^31-1, at most max */
    FIELD_STRMAP, /* object whose values are strings, at most max */
};

enum field_action {
    FIELD_PASS,    /* as it is */
    FIELD_DROP,    /* left out; someone else handles it, or it says nothing in a guest */
    FIELD_NOTE,    /* left out with the note `why` if it says anything (not empty, zero or false) */
    FIELD_REWRITE, /* left out of the copy, the caller sets it */
};

struct field {
    const char *key;
    enum field_kind kind;
    enum field_action action;
    bool required;
    int64_t min, max;
    const char *why;
    const struct field *fields; /* ends with a NULL key */
};

/* Checks obj, which stands at `path`, against the table. -EINVAL with the JSON path. */
int fields_check(const json_t *obj, const char *path, const struct field *fields, struct err *err);

/* A new object with the fields of obj that the table passes on; deep. Unknown ones are left out with a note. ret is
 * owned by the caller. */
int fields_copy(const json_t *obj, const char *path, const struct field *fields, json_t **ret, struct strv *notes,
                struct err *err);

/* Adds a note. Returns 0 or -ENOMEM. */
int note_add(struct strv *notes, struct err *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* obj[key] = value, which is taken over also on failure. -ENOMEM also when value is NULL. */
int json_put(json_t *obj, const char *key, json_t *value, struct err *err);
/* The same at the end of an array. */
int json_push(json_t *array, json_t *value, struct err *err);

/* True if the value is missing, null, empty, zero or false. */
bool json_says_nothing(const json_t *v);
