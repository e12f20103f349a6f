/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/archive_config.h"

#include <string.h>
#include <time.h>

#include "base/json.h"

#define CONFIG_NAME "config.dump"
#define MANAGER "io.container.manager"
#define USEC_DIGITS 6
#define TIME_ZERO "0001-01-01T00:00:00Z" /* Go's time that was never set; readers need the key */

void archive_config_clear(struct archive_config *c) {
    free(c->id);
    free(c->name);
    free(c->rootfs_image);
    free(c->rootfs_image_ref);
    free(c->rootfs_image_name);
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
static int get_text(const json_t *obj, const char *key, char **ret, struct err *err) {
    const char *s = NULL;
    int r = json_get_str(obj, CONFIG_NAME, key, &s, err);
    if (r <= 0 || !*s)
        return r;
    if (strlen(s) > ARCHIVE_TEXT_MAX)
        return err_set(err, EINVAL, CONFIG_NAME ".%s: longer than %d bytes", key, ARCHIVE_TEXT_MAX);
    for (const unsigned char *p = (const unsigned char *)s; *p; p++)
        if (*p < ' ' || *p == 0x7f || (p[0] == 0xc2 && p[1] < 0xa0))
            return err_set(err, EINVAL, CONFIG_NAME ".%s: has control characters", key);
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
    if ((r = get_text(v, "id", &c->id, err)) < 0 || (r = get_text(v, "name", &c->name, err)) < 0 ||
        (r = get_text(v, "rootfsImage", &c->rootfs_image, err)) < 0 ||
        (r = get_text(v, "rootfsImageRef", &c->rootfs_image_ref, err)) < 0 ||
        (r = get_text(v, "rootfsImageName", &c->rootfs_image_name, err)) < 0 ||
        (r = get_text(v, "runtime", &c->runtime, err)) < 0 ||
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
                 {"runtime", c->runtime}};
    cleanup_json json_t *v = json_object();
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
        if (texts[i].value && json_object_set_new(v, texts[i].key, json_string(texts[i].value)) < 0)
            return NULL;
    if (json_object_set_new(v, "createdTime", time_json(c->created_wall_usec)) < 0 ||
        json_object_set_new(v, "checkpointedTime", time_json(c->checkpointed_wall_usec)) < 0 ||
        json_object_set_new(v, "restoredTime", time_json(c->restored_wall_usec)) < 0 ||
        json_object_set_new(v, "restored", json_boolean(c->restored)) < 0)
        return NULL;
    return json_text(v, JSON_INDENT(1));
}

int archive_engine(const char *spec, size_t len, const char **ret, struct err *err) {
    static const char name[] = "spec.dump";
    cleanup_json json_t *v = NULL;
    json_t *annotations = NULL;
    const char *manager = NULL;
    int r;
    if ((r = json_parse(name, spec, len, &v, err)) < 0 ||
        (r = json_get_obj(v, name, "annotations", &annotations, err)) < 0 ||
        (r = json_get_str(annotations, "spec.dump.annotations", MANAGER, &manager, err)) < 0)
        return r;
    *ret = manager && strcmp(manager, "libpod") == 0  ? "podman"
           : manager && strcmp(manager, "cri-o") == 0 ? "cri-o"
                                                      : "containerd";
    return 0;
}
