/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/archive_config.h"

#include <string.h>
#include <time.h>

#include "base/json.h"

#define CONFIG_NAME "config.dump"
#define MANAGER "io.container.manager"
#define ANNOTATIONS "spec.dump.annotations"
#define CRIO "io.kubernetes.cri-o."
#define CRI "io.kubernetes.cri."
#define JSON_BLANKS " \t\r\n"
#define STOP_TIMEOUT 10 /* seconds, as Podman's own */
#define USEC_DIGITS 6
#define TIME_ZERO "0001-01-01T00:00:00Z" /* Go's time that was never set; readers need the key */

void archive_config_clear(struct archive_config *c) {
    free(c->id);
    free(c->name);
    free(c->rootfs_image);
    free(c->rootfs_image_ref);
    free(c->rootfs_image_name);
    free(c->rootfs_image_id);
    free(c->runtime);
    *c = (struct archive_config){0};
}

/* n digits as a number, -1 if they are none. */
static int digits(const char **s, int n) {
    int v = 0;
    for (; n > 0; n--, (*s)++) {
        if (**s < '0' || **s > '9')
            return -1;
        v = v * 10 + (**s - '0');
    }
    return v;
}

static bool eat(const char **s, char c) {
    if (**s != c)
        return false;
    (*s)++;
    return true;
}

/* "Z" or "+hh:mm", in seconds. */
static int zone_parse(const char **s, int *ret) {
    int sign = **s == '-' ? -1 : 1, h, m;
    *ret = 0;
    if (eat(s, 'Z'))
        return 0;
    if (!eat(s, '+') && !eat(s, '-'))
        return -EINVAL;
    if ((h = digits(s, 2)) < 0 || h > 23 || !eat(s, ':') || (m = digits(s, 2)) < 0 || m > 59)
        return -EINVAL;
    *ret = sign * (h * 3600 + m * 60);
    return 0;
}

int archive_time_parse(const char *text, uint64_t *ret_wall_usec) {
    const char *s = text;
    struct tm tm = {0};
    int usec = 0, zone, year;
    if ((year = digits(&s, 4)) < 0 || !eat(&s, '-') || (tm.tm_mon = digits(&s, 2) - 1) < 0 || tm.tm_mon > 11 ||
        !eat(&s, '-') || (tm.tm_mday = digits(&s, 2)) < 1 || tm.tm_mday > 31 || !eat(&s, 'T') ||
        (tm.tm_hour = digits(&s, 2)) < 0 || tm.tm_hour > 23 || !eat(&s, ':') || (tm.tm_min = digits(&s, 2)) < 0 ||
        tm.tm_min > 59 || !eat(&s, ':') || (tm.tm_sec = digits(&s, 2)) < 0 || tm.tm_sec > 60)
        return -EINVAL;
    tm.tm_year = year - 1900;
    if (eat(&s, '.')) {
        int n = 0;
        for (; *s >= '0' && *s <= '9'; s++, n++)
            if (n < USEC_DIGITS)
                usec = usec * 10 + (*s - '0');
        if (n == 0)
            return -EINVAL;
        for (; n < USEC_DIGITS; n++)
            usec *= 10;
    }
    if (zone_parse(&s, &zone) < 0 || *s)
        return -EINVAL;
    int64_t sec = (int64_t)timegm(&tm) - zone;
    *ret_wall_usec = sec < 0 ? 0 : (uint64_t)sec * USEC_PER_SEC + (uint64_t)usec;
    return 0;
}

/* What is shown on terminals and used to look for an image is one line of text. */
static int get_text(const json_t *obj, const char *path, const char *key, char **ret, struct err *err) {
    const char *s = NULL;
    int r = json_get_str(obj, path, key, &s, err);
    if (r <= 0 || !*s)
        return r;
    if (strlen(s) > ARCHIVE_TEXT_MAX)
        return err_set(err, EINVAL, "%s.%s: longer than %d bytes", path, key, ARCHIVE_TEXT_MAX);
    for (const unsigned char *p = (const unsigned char *)s; *p; p++)
        if (*p < ' ' || *p == 0x7f || (p[0] == 0xc2 && p[1] < 0xa0))
            return err_set(err, EINVAL, "%s.%s: has control characters", path, key);
    *ret = strdup(s);
    return *ret ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int get_time(const json_t *obj, const char *key, uint64_t *ret, struct err *err) {
    const char *s = NULL;
    int r = json_get_str(obj, CONFIG_NAME, key, &s, err);
    if (r <= 0)
        return r;
    if (archive_time_parse(s, ret) < 0)
        return err_set(err, EINVAL, CONFIG_NAME ".%s: must be a time", key);
    return 0;
}

static int get_fields(const json_t *v, struct archive_config *c, struct err *err) {
    int r;
    if ((r = get_text(v, CONFIG_NAME, "id", &c->id, err)) < 0 ||
        (r = get_text(v, CONFIG_NAME, "name", &c->name, err)) < 0 ||
        (r = get_text(v, CONFIG_NAME, "rootfsImage", &c->rootfs_image, err)) < 0 ||
        (r = get_text(v, CONFIG_NAME, "rootfsImageRef", &c->rootfs_image_ref, err)) < 0 ||
        (r = get_text(v, CONFIG_NAME, "rootfsImageName", &c->rootfs_image_name, err)) < 0 ||
        (r = get_text(v, CONFIG_NAME, "runtime", &c->runtime, err)) < 0 ||
        (r = get_time(v, "createdTime", &c->created_wall_usec, err)) < 0 ||
        (r = get_time(v, "checkpointedTime", &c->checkpointed_wall_usec, err)) < 0 ||
        (r = get_time(v, "restoredTime", &c->restored_wall_usec, err)) < 0 ||
        (r = json_get_bool(v, CONFIG_NAME, "restored", &c->restored, err)) < 0)
        return r;
    return 0;
}

int archive_config_parse(const char *text, size_t len, struct archive_config *ret, struct err *err) {
    cleanup_json json_t *v = NULL;
    struct archive_config c = {0};
    if (len > ARCHIVE_CONFIG_MAX)
        return err_set(err, EFBIG, CONFIG_NAME ": larger than %zu bytes", ARCHIVE_CONFIG_MAX);
    int r = json_parse(CONFIG_NAME, text, len, &v, err);
    if (r < 0)
        return r;
    if ((r = get_fields(v, &c, err)) < 0) {
        archive_config_clear(&c);
        return r;
    }
    *ret = c;
    return 0;
}

static json_t *time_json(uint64_t wall_usec) {
    char buf[40];
    return json_string(wall_usec ? format_rfc3339(wall_usec, buf, sizeof(buf)) : TIME_ZERO);
}

char *archive_config_text(const struct archive_config *c) {
    const struct {
        const char *key, *value;
    } texts[] = {{"id", c->id},
                 {"name", c->name},
                 {"rootfsImage", c->rootfs_image},
                 {"rootfsImageRef", c->rootfs_image_ref},
                 {"rootfsImageName", c->rootfs_image_name},
                 {"rootfsImageID", c->rootfs_image_id},
                 {"runtime", c->runtime}};
    cleanup_json json_t *v = json_object();
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (texts[i].value && json_object_set_new(v, texts[i].key, json_string(texts[i].value)) < 0)
            return NULL;
    if (json_object_set_new(v, "createdTime", time_json(c->created_wall_usec)) < 0 ||
        json_object_set_new(v, "checkpointedTime", time_json(c->checkpointed_wall_usec)) < 0 ||
        json_object_set_new(v, "restoredTime", time_json(c->restored_wall_usec)) < 0 ||
        json_object_set_new(v, "restored", json_boolean(c->restored)) < 0 ||
        json_object_set_new(v, "NoShm", json_boolean(c->own_shm)) < 0 ||
        json_object_set_new(v, "stopTimeout", json_integer(STOP_TIMEOUT)) < 0)
        return NULL;
    return json_text(v, JSON_INDENT(1));
}

static int get_annotations(const json_t *spec, json_t **ret, struct err *err) {
    *ret = NULL;
    return json_get_obj(spec, "spec.dump", "annotations", ret, err);
}

/* Podman's containers share a /dev/shm of the host. */
static bool has_own_shm(const json_t *spec) {
    size_t i;
    json_t *m;
    json_array_foreach(json_object_get(spec, "mounts"), i, m) {
        const char *to = json_string_value(json_object_get(m, "destination"));
        const char *type = json_string_value(json_object_get(m, "type"));
        if (to && type && strcmp(to, "/dev/shm") == 0)
            return strcmp(type, "bind") != 0;
    }
    return true;
}

int archive_config_from_spec(const json_t *spec, struct archive_config *c, struct err *err) {
    const struct {
        char **field;
        const char *key;
    } sources[] = {{&c->name, CRIO "Name"},
                   {&c->name, CRI "container-name"},
                   {&c->rootfs_image, CRIO "Image"},
                   {&c->rootfs_image_ref, CRIO "ImageRef"},
                   {&c->rootfs_image_id, CRIO "ImageRef"},
                   {&c->rootfs_image_name, CRIO "ImageName"},
                   {&c->rootfs_image_name, CRI "image-name"}};
    json_t *annotations;
    int r = get_annotations(spec, &annotations, err);
    for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(sources); i++)
        if (!*sources[i].field)
            r = get_text(annotations, ANNOTATIONS, sources[i].key, sources[i].field, err);
    c->own_shm = has_own_shm(spec);
    return MIN(r, 0);
}

/* The value of a key of the object that the text is, which is JSON; NULL if it has none of that name. */
static const char *find_value(const char *text, const char *key) {
    size_t len = strlen(key);
    unsigned depth = 0;
    for (const char *s = text; *s; s++) {
        if (*s == '{' || *s == '[')
            depth++;
        else if (*s == '}' || *s == ']')
            depth--;
        if (*s != '"')
            continue;
        const char *name = s + 1;
        for (s++; *s != '"'; s++)
            if (*s == '\\')
                s++;
        const char *next = s + 1 + strspn(s + 1, JSON_BLANKS);
        if (depth == 1 && *next == ':' && (size_t)(s - name) == len && strncmp(name, key, len) == 0)
            return next + 1 + strspn(next + 1, JSON_BLANKS);
    }
    return NULL;
}

/* `"key": "value", …` of all that are to be added, "" for none; malloc'd. */
static char *added_members(const json_t *annotations, const char *name) {
    bool made_by_other = json_object_get(annotations, MANAGER) != NULL;
    const struct {
        const char *key, *value;
    } wanted[] = {{MANAGER, "stasis"}, {CRIO "Annotations", "{}"}, {CRI "container-name", made_by_other ? NULL : name}};
    cleanup_json json_t *added = json_object();
    for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
        if (wanted[i].value && !json_object_get(annotations, wanted[i].key) &&
            json_object_set_new(added, wanted[i].key, json_string(wanted[i].value)) < 0)
            return NULL;
    char *text = added ? json_text(added, JSON_COMPACT) : NULL;
    if (!text)
        return NULL;
    /* Without the braces. */
    size_t n = strlen(text) - 2;
    memmove(text, text + 1, n);
    text[n] = '\0';
    return text;
}

int archive_spec_annotate(const char *text, const char *name, char **ret, struct err *err) {
    cleanup_json json_t *spec = NULL;
    json_t *annotations;
    int r = json_parse("spec.dump", text, strlen(text), &spec, err);
    if (r < 0 || (r = get_annotations(spec, &annotations, err)) < 0)
        return r;
    cleanup_free char *added = added_members(annotations, name);
    if (!added)
        return err_set(err, ENOMEM, "out of memory");
    const char *at = find_value(text, "annotations"), *rest = at ? at + 1 : strchr(text, '{') + 1;
    const char *comma = *added && json_object_size(annotations) ? "," : "";
    if (at && !annotations) /* null */
        *ret = str_printf("%.*s{%s}%s", (int)(at - text), text, added, at + strlen("null"));
    else if (at)
        *ret = str_printf("%.*s%s%s%s", (int)(rest - text), text, added, comma, rest);
    else
        *ret = str_printf("%.*s\"annotations\":{%s}%s%s", (int)(rest - text), text, added,
                          json_object_size(spec) ? "," : "", rest);
    return *ret ? 0 : err_set(err, ENOMEM, "out of memory");
}

int archive_engine(const char *spec, size_t len, const char **ret, struct err *err) {
    static const struct {
        const char *manager, *engine;
    } engines[] = {{"libpod", "podman"}, {"cri-o", "cri-o"}, {"stasis", "stasis"}};
    cleanup_json json_t *v = NULL;
    json_t *annotations = NULL;
    const char *manager = NULL;
    int r;
    if ((r = json_parse("spec.dump", spec, len, &v, err)) < 0 || (r = get_annotations(v, &annotations, err)) < 0 ||
        (r = json_get_str(annotations, ANNOTATIONS, MANAGER, &manager, err)) < 0)
        return r;
    *ret = "containerd";
    for (size_t i = 0; manager && i < ARRAY_SIZE(engines); i++)
        if (strcmp(manager, engines[i].manager) == 0)
            *ret = engines[i].engine;
    return 0;
}
