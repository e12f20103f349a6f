/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON from files and peers (jansson), with bounds and with messages that name the place: "process.args[2]: must be a
 * string". Getters return borrowed references.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define JSON_TEXT_MAX ((size_t)16 << 20)

#define cleanup_json CLEANUP(json_decrefp) /* json_decrefp() is jansson's */

/* json_loadb() without duplicate keys; NULL with json_error_out_of_memory also where jansson itself would have left a
 * part out. */
json_t *json_load_whole(const char *text, size_t len, json_error_t *ret_error);

/* json_deep_copy(), of which the same is to be said. */
json_t *json_copy_whole(const json_t *v);

/* Parses text of len bytes: an object, no duplicate keys, at most JSON_TEXT_MAX bytes. `name` is used in messages with
 * line and column. A whole number from 2^63 to 2^64-1, as Go programs write RLIM_INFINITY, is read as the negative
 * number with the same 64 bits (crun reads that back as the same value). Errors: -EINVAL, -EFBIG, -ENOMEM. */
int json_parse(const char *name, const char *text, size_t len, json_t **ret, struct err *err);

/* The same from a file. Errors also: open's and read's. */
int json_parse_file(const char *path, json_t **ret, struct err *err);

/*
 * Getters. `path` is where obj stands ("" for the top, "process", "mounts[3]") and is only used in messages.
 * Missing keys and JSON null leave *ret as it was and return 0; a found value returns 1; a wrong type or a number out
 * of range is -EINVAL with "<path>.<key>: must be …".
 */
int json_get_str(const json_t *obj, const char *path, const char *key, const char **ret, struct err *err);
int json_get_bool(const json_t *obj, const char *path, const char *key, bool *ret, struct err *err);
int json_get_i64(const json_t *obj, const char *path, const char *key, int64_t min, int64_t max, int64_t *ret,
                 struct err *err);
int json_get_obj(const json_t *obj, const char *path, const char *key, json_t **ret, struct err *err);
int json_get_array(const json_t *obj, const char *path, const char *key, json_t **ret, struct err *err);

/* An array whose every element is a string without NUL. */
int json_get_str_array(const json_t *obj, const char *path, const char *key, json_t **ret, struct err *err);

/* malloc'd text; NULL when out of memory. `flags` as json_dumps. */
char *json_text(const json_t *v, size_t flags);
