/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <fcntl.h>
#include <stdalign.h>
#include <stddef.h>
#include <string.h>

#include "base/fd.h"

#define RESERVE_SIZE ((size_t)64 << 10) /* a state or a message is parsed with that; more is not promised */
#define BIG_DIGITS_MIN 19               /* of the whole numbers above INT64_MAX that fit 64 bits: 19 or 20 digits */
#define BIG_DIGITS_MAX 20

/* The length of the number at text if it is a whole one above INT64_MAX and at most UINT64_MAX, else 0. */
static size_t big_number(const char *text, size_t len, int64_t *ret) {
    char digits[BIG_DIGITS_MAX + 1];
    size_t n = 0;
    while (n < len && n <= BIG_DIGITS_MAX && text[n] >= '0' && text[n] <= '9')
        n++;
    if (n < BIG_DIGITS_MIN || n > BIG_DIGITS_MAX || text[0] == '0')
        return 0;
    if (n < len && (text[n] == '.' || text[n] == 'e' || text[n] == 'E'))
        return 0;
    memcpy(digits, text, n);
    digits[n] = '\0';
    uint64_t v;
    if (parse_u64(digits, UINT64_MAX, &v) < 0 || v <= INT64_MAX)
        return 0;
    *ret = (int64_t)v;
    return n;
}

/* Go programs write unsigned 64-bit numbers, such as RLIM_INFINITY; jansson has only signed ones and would refuse the
 * whole text. Returns the text with those numbers written as signed ones, malloc'd; NULL and *ret_len 0 if there are
 * none, NULL and *ret_len 1 when out of memory. */
static char *fold_big_numbers(const char *text, size_t len, size_t *ret_len) {
    char *out = NULL;
    size_t n = 0;
    bool in_string = false;
    *ret_len = 0;
    for (size_t i = 0; i < len;) {
        bool starts = !in_string && (i == 0 || !strchr("0123456789.+-eE", text[i - 1]) || !text[i - 1]);
        int64_t v;
        size_t digits = starts ? big_number(text + i, len - i, &v) : 0;
        if (digits && !out) {
            /* A number grows by one byte at most, to "-" and 19 digits. */
            out = malloc(len + len / BIG_DIGITS_MIN + 1);
            if (!out) {
                *ret_len = 1;
                return NULL;
            }
            memcpy(out, text, i);
            n = i;
        }
        if (digits) {
            char number[32];
            int k = snprintf(number, sizeof(number), "%lld", (long long)v);
            memcpy(out + n, number, (size_t)k);
            n += (size_t)k;
            i += digits;
            continue;
        }
        size_t step = in_string && text[i] == '\\' && i + 1 < len ? 2 : 1;
        if (step == 1 && text[i] == '"')
            in_string = !in_string;
        if (out)
            memcpy(out + n, text + i, step);
        n += step;
        i += step;
    }
    if (out)
        *ret_len = n;
    return out;
}

/*
 * jansson 2.14 cannot do without memory: a text that it writes lacks a key, a copy lacks a member, and its parser
 * follows a null pointer. So while one of these is under way, what malloc() does not give comes out of a reserve, and
 * the result is thrown away. jansson's allocator has no place for a pointer of the caller's, so this is static.
 */
static struct {
    bool under_way, failed;
    size_t used;
    alignas(max_align_t) uint8_t bytes[RESERVE_SIZE];
} reserve;

static void *reserve_malloc(size_t size) {
    void *p = malloc(size);
    if (p || !reserve.under_way)
        return p;
    reserve.failed = true;
    size_t need = (size + alignof(max_align_t) - 1) / alignof(max_align_t) * alignof(max_align_t);
    if (need < size || need > RESERVE_SIZE - reserve.used)
        return NULL;
    p = reserve.bytes + reserve.used;
    reserve.used += need;
    return p;
}

static void reserve_free(void *p) {
    if ((uintptr_t)p < (uintptr_t)reserve.bytes || (uintptr_t)p >= (uintptr_t)reserve.bytes + RESERVE_SIZE)
        free(p);
}

static void reserve_begin(void) {
    json_set_alloc_funcs(reserve_malloc, reserve_free);
    reserve.failed = false;
    reserve.used = 0;
    reserve.under_way = true;
}

/* Whether the result is whole. Else it is to be freed before the next one begins. */
static bool reserve_end(void) {
    reserve.under_way = false;
    return !reserve.failed;
}

json_t *json_load_whole(const char *text, size_t len, json_error_t *ret_error) {
    reserve_begin();
    json_t *v = json_loadb(text, len, JSON_REJECT_DUPLICATES, ret_error);
    if (reserve_end())
        return v;
    json_decref(v);
    memset(ret_error, 0, sizeof(*ret_error));
    snprintf(ret_error->text, sizeof(ret_error->text) - 1, "out of memory");
    ret_error->text[sizeof(ret_error->text) - 1] = (char)json_error_out_of_memory; /* where json_error_code() looks */
    return NULL;
}

json_t *json_copy_whole(const json_t *v) {
    reserve_begin();
    json_t *copy = json_deep_copy(v);
    if (reserve_end())
        return copy;
    json_decref(copy);
    return NULL;
}

int json_parse(const char *name, const char *text, size_t len, json_t **ret, struct err *err) {
    if (len > JSON_TEXT_MAX)
        return err_set(err, EFBIG, "%s: larger than %zu bytes", name, JSON_TEXT_MAX);
    size_t folded_len;
    cleanup_free char *folded = fold_big_numbers(text, len, &folded_len);
    if (!folded && folded_len)
        return err_set(err, ENOMEM, "%s: out of memory", name);
    json_error_t je;
    json_t *v = json_load_whole(folded ? folded : text, folded ? folded_len : len, &je);
    if (!v) {
        if (json_error_code(&je) == json_error_out_of_memory)
            return err_set(err, ENOMEM, "%s: out of memory", name);
        return err_set(err, EINVAL, "%s: line %d, column %d: %s", name, je.line, je.column, je.text);
    }
    if (!json_is_object(v)) {
        json_decref(v);
        return err_set(err, EINVAL, "%s: must be a JSON object", name);
    }
    *ret = v;
    return 0;
}

int json_parse_file(const char *path, json_t **ret, struct err *err) {
    cleanup_free char *text = NULL;
    size_t len;
    int r = file_read_at(AT_FDCWD, path, JSON_TEXT_MAX, &text, &len, err);
    if (r < 0)
        return r;
    return json_parse(path, text, len, ret, err);
}

static int wrong(const char *path, const char *key, const char *must, struct err *err) {
    return err_set(err, EINVAL, "%s%s%s: must be %s", path, *path ? "." : "", key, must);
}

static json_t *lookup(const json_t *obj, const char *key) {
    json_t *v = json_object_get(obj, key);
    return json_is_null(v) ? NULL : v;
}

int json_get_str(const json_t *obj, const char *path, const char *key, const char **ret, struct err *err) {
    json_t *v = lookup(obj, key);
    if (!v)
        return 0;
    if (!json_is_string(v))
        return wrong(path, key, "a string", err);
    *ret = json_string_value(v);
    return 1;
}

int json_get_bool(const json_t *obj, const char *path, const char *key, bool *ret, struct err *err) {
    json_t *v = lookup(obj, key);
    if (!v)
        return 0;
    if (!json_is_boolean(v))
        return wrong(path, key, "true or false", err);
    *ret = json_is_true(v);
    return 1;
}

int json_get_i64(const json_t *obj, const char *path, const char *key, int64_t min, int64_t max, int64_t *ret,
                 struct err *err) {
    json_t *v = lookup(obj, key);
    if (!v)
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max) {
        char must[96];
        snprintf(must, sizeof(must), "a whole number from %lld to %lld", (long long)min, (long long)max);
        return wrong(path, key, must, err);
    }
    *ret = json_integer_value(v);
    return 1;
}

int json_get_obj(const json_t *obj, const char *path, const char *key, json_t **ret, struct err *err) {
    json_t *v = lookup(obj, key);
    if (!v)
        return 0;
    if (!json_is_object(v))
        return wrong(path, key, "an object", err);
    *ret = v;
    return 1;
}

int json_get_array(const json_t *obj, const char *path, const char *key, json_t **ret, struct err *err) {
    json_t *v = lookup(obj, key);
    if (!v)
        return 0;
    if (!json_is_array(v))
        return wrong(path, key, "an array", err);
    *ret = v;
    return 1;
}

int json_get_str_array(const json_t *obj, const char *path, const char *key, json_t **ret, struct err *err) {
    json_t *array = NULL;
    int r = json_get_array(obj, path, key, &array, err);
    if (r <= 0)
        return r;
    for (size_t i = 0; i < json_array_size(array); i++)
        if (!json_is_string(json_array_get(array, i)))
            return err_set(err, EINVAL, "%s%s%s[%zu]: must be a string", path, *path ? "." : "", key, i);
    *ret = array;
    return 1;
}

char *json_text(const json_t *v, size_t flags) {
    reserve_begin();
    char *text = json_dumps(v, flags);
    if (reserve_end())
        return text;
    reserve_free(text);
    return NULL;
}
