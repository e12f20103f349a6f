/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/schema.h"

#include <string.h>

#include "base/json.h"

#define NOTES_MAX 256 /* a specification may have millions of unknown keys */

int note_add(struct strv *notes, struct err *err, const char *fmt, ...) {
    char text[1024] = "more was left out than can be listed";
    if (notes->n > NOTES_MAX)
        return 0;
    if (notes->n == NOTES_MAX)
        return strv_add(notes, text) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (strv_add(notes, text) < 0)
        return err_set(err, ENOMEM, "out of memory");
    return 0;
}

int json_put(json_t *obj, const char *key, json_t *value, struct err *err) {
    if (json_object_set_new(obj, key, value) < 0)
        return err_set(err, ENOMEM, "out of memory");
    return 0;
}

int json_push(json_t *array, json_t *value, struct err *err) {
    if (json_array_append_new(array, value) < 0)
        return err_set(err, ENOMEM, "out of memory");
    return 0;
}

bool json_says_nothing(const json_t *v) {
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_OBJECT:
        return json_object_size(v) == 0;
    case JSON_ARRAY:
        return json_array_size(v) == 0;
    case JSON_STRING:
        return json_string_length(v) == 0;
    case JSON_INTEGER:
        return json_integer_value(v) == 0;
    case JSON_REAL:
        return json_real_value(v) == 0;
    case JSON_TRUE:
        return false;
    default:
        return true;
    }
}

/* "path.key" without a leading dot; long paths are cut, they are only for messages. */
static const char *sub_path(char buf[static OCI_PATH_TEXT_MAX], const char *path, const char *key) {
    snprintf(buf, OCI_PATH_TEXT_MAX, "%s%s%s", path, *path ? "." : "", key);
    return buf;
}

static int check_str(const json_t *v, const char *path, struct err *err) {
    if (json_string_length(v) >= OCI_STRING_MAX)
        return err_set(err, EINVAL, "%s: longer than %d bytes", path, OCI_STRING_MAX - 1);
    return 0;
}

static int check_list(const json_t *obj, const char *path, const struct field *f, struct err *err) {
    char at[OCI_PATH_TEXT_MAX], item[OCI_PATH_TEXT_MAX + 24];
    json_t *list = NULL;
    int r = f->kind == FIELD_STRS ? json_get_str_array(obj, path, f->key, &list, err)
                                  : json_get_array(obj, path, f->key, &list, err);
    if (r <= 0)
        return r;
    sub_path(at, path, f->key);
    if (json_array_size(list) > (size_t)f->max)
        return err_set(err, EINVAL, "%s: more than %lld elements", at, (long long)f->max);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        snprintf(item, sizeof(item), "%s[%zu]", at, i);
        if (f->kind == FIELD_STRS && (r = check_str(v, item, err)) < 0)
            return r;
        if (f->kind == FIELD_INTS &&
            (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX))
            return err_set(err, EINVAL, "%s: must be a whole number from 0 to %d", item, INT32_MAX);
        if (f->kind == FIELD_OBJS && !json_is_object(v))
            return err_set(err, EINVAL, "%s: must be an object", item);
        if (f->kind == FIELD_OBJS && f->fields && (r = fields_check(v, item, f->fields, err)) < 0)
            return r;
    }
    return 1;
}

static int check_strmap(const json_t *obj, const char *path, const struct field *f, struct err *err) {
    char at[OCI_PATH_TEXT_MAX];
    json_t *map = NULL;
    int r = json_get_obj(obj, path, f->key, &map, err);
    if (r <= 0)
        return r;
    sub_path(at, path, f->key);
    if (json_object_size(map) > (size_t)f->max)
        return err_set(err, EINVAL, "%s: more than %lld entries", at, (long long)f->max);
    const char *key;
    json_t *v;
    json_object_foreach(map, key, v) {
        if (!json_is_string(v))
            return err_set(err, EINVAL, "%s[\"%.200s\"]: must be a string", at, key);
        if (strlen(key) >= OCI_STRING_MAX || json_string_length(v) >= OCI_STRING_MAX)
            return err_set(err, EINVAL, "%s[\"%.200s\"]: longer than %d bytes", at, key, OCI_STRING_MAX - 1);
    }
    return 1;
}

static int check_field(const json_t *obj, const char *path, const struct field *f, struct err *err) {
    char at[OCI_PATH_TEXT_MAX];
    const char *s;
    bool b;
    int64_t i;
    json_t *o = NULL;
    int r;
    switch (f->kind) {
    case FIELD_STR:
        r = json_get_str(obj, path, f->key, &s, err);
        return r <= 0 || check_str(json_object_get(obj, f->key), sub_path(at, path, f->key), err) == 0 ? r : -EINVAL;
    case FIELD_BOOL:
        return json_get_bool(obj, path, f->key, &b, err);
    case FIELD_INT:
        return json_get_i64(obj, path, f->key, f->min, f->max, &i, err);
    case FIELD_OBJ:
        r = json_get_obj(obj, path, f->key, &o, err);
        if (r <= 0 || !f->fields)
            return r;
        return fields_check(o, sub_path(at, path, f->key), f->fields, err) < 0 ? -EINVAL : 1;
    case FIELD_STRS:
    case FIELD_OBJS:
    case FIELD_INTS:
        return check_list(obj, path, f, err);
    case FIELD_STRMAP:
        return check_strmap(obj, path, f, err);
    }
    return 0;
}

int fields_check(const json_t *obj, const char *path, const struct field *fields, struct err *err) {
    for (const struct field *f = fields; f->key; f++) {
        int r = check_field(obj, path, f, err);
        if (r < 0)
            return r;
        if (r == 0 && f->required)
            return err_set(err, EINVAL, "%s%s%s: is missing", path, *path ? "." : "", f->key);
    }
    return 0;
}

static int copy_list(const json_t *list, const char *path, const struct field *f, json_t **ret, struct strv *notes,
                     struct err *err) {
    cleanup_json json_t *copy = json_array();
    char item[OCI_PATH_TEXT_MAX + 24];
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *v = NULL;
        snprintf(item, sizeof(item), "%s[%zu]", path, i);
        int r = fields_copy(json_array_get(list, i), item, f->fields, &v, notes, err);
        if (r < 0 || (r = json_push(copy, v, err)) < 0)
            return r;
    }
    *ret = TAKE_PTR(copy);
    return 0;
}

static int copy_field(const json_t *v, const char *path, const struct field *f, json_t *to, struct strv *notes,
                      struct err *err) {
    char at[OCI_PATH_TEXT_MAX];
    json_t *copy = NULL;
    int r = 0;
    sub_path(at, path, f->key);
    if (f->fields && f->kind == FIELD_OBJ)
        r = fields_copy(v, at, f->fields, &copy, notes, err);
    else if (f->fields && f->kind == FIELD_OBJS)
        r = copy_list(v, at, f, &copy, notes, err);
    else
        copy = json_copy_whole(v);
    return r < 0 ? r : json_put(to, f->key, copy, err);
}

int fields_copy(const json_t *obj, const char *path, const struct field *fields, json_t **ret, struct strv *notes,
                struct err *err) {
    cleanup_json json_t *copy = json_object();
    if (!copy)
        return err_set(err, ENOMEM, "out of memory");
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)obj, key, v) {
        const struct field *f = fields;
        while (f->key && strcmp(f->key, key) != 0)
            f++;
        int r = 0;
        if (json_is_null(v))
            continue;
        if (!f->key)
            r = note_add(notes, err, "%s%s%.200s: is not known to stasis, ignored", path, *path ? "." : "", key);
        else if (f->action == FIELD_NOTE && !json_says_nothing(v))
            r = note_add(notes, err, "%s%s%s: %s, ignored", path, *path ? "." : "", key, f->why);
        else if (f->action == FIELD_PASS)
            r = copy_field(v, path, f, copy, notes, err);
        if (r < 0)
            return r;
    }
    *ret = TAKE_PTR(copy);
    return 0;
}
