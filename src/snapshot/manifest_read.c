/* SPDX-License-Identifier: Apache-2.0 */
#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/json.h"
#include "snapshot/manifest_impl.h"

#define KEYS_MAX 16

/* Exactly these keys, none missing (or null) and none more: an unknown one may change what the others mean. */
static int check_keys(const json_t *obj, const char *path, const char *const *keys, struct err *err) {
    const char *key, *dot = *path ? "." : "";
    json_t *value;
    for (size_t i = 0; keys[i]; i++) {
        value = json_object_get(obj, keys[i]);
        if (!value || json_is_null(value))
            return err_set(err, EINVAL, "%s%s%s: is missing", path, dot, keys[i]);
    }
    json_object_foreach((json_t *)(uintptr_t)obj, key, value) {
        size_t i = 0;
        while (keys[i] && strcmp(keys[i], key) != 0)
            i++;
        if (!keys[i])
            return err_set(err, EINVAL, "%s%s%.64s: is not known", path, dot, key);
    }
    return 0;
}

#define CHECK_KEYS(obj, path, err, ...) check_keys(obj, path, (const char *const[KEYS_MAX]){__VA_ARGS__, NULL}, err)

static int get_obj(const json_t *obj, const char *path, const char *key, json_t **ret, struct err *err) {
    int r = json_get_obj(obj, path, key, ret, err);
    return r < 0 ? r : 0;
}

static int get_u64(const json_t *obj, const char *path, const char *key, uint64_t min, uint64_t max, uint64_t *ret,
                   struct err *err) {
    int64_t v = 0;
    int r = json_get_i64(obj, path, key, (int64_t)min, (int64_t)max, &v, err);
    if (r < 0)
        return r;
    *ret = (uint64_t)v;
    return 0;
}

/* Of at most max bytes, without control characters: it goes to logs and command lines. */
static int get_text(const json_t *obj, const char *path, const char *key, size_t max, char **ret, struct err *err) {
    const char *s = "", *dot = *path ? "." : "";
    int r = json_get_str(obj, path, key, &s, err);
    if (r < 0)
        return r;
    if (strlen(s) > max)
        return err_set(err, EINVAL, "%s%s%s: longer than %zu bytes", path, dot, key, max);
    for (const char *p = s; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return err_set(err, EINVAL, "%s%s%s: must have no control characters", path, dot, key);
    *ret = strdup(s);
    return *ret ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int get_id(const json_t *obj, const char *path, const char *key, char **ret, struct err *err) {
    int r = get_text(obj, path, key, ID_MAX, ret, err);
    if (r == 0 && (r = id_validate("id", *ret, err)) < 0)
        return err_wrap(err, "%s%s%s", path, *path ? "." : "", key);
    return r;
}

static int digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_hex(const json_t *v, uint8_t *ret, size_t size) {
    const char *s = json_string_value(v);
    bool good = s && strlen(s) == 2 * size;
    for (size_t i = 0; good && i < size; i++) {
        int high = digit(s[2 * i]), low = digit(s[2 * i + 1]);
        good = high >= 0 && low >= 0;
        ret[i] = (uint8_t)(good ? high << 4 | low : 0);
    }
    return good;
}

static int parse_digest(const char *path, const json_t *v, uint8_t ret[MANIFEST_DIGEST_SIZE], struct err *err) {
    return parse_hex(v, ret, MANIFEST_DIGEST_SIZE)
               ? 0
               : err_set(err, EINVAL, "%s: must be a SHA-256 in lower-case hexadecimal digits", path);
}

static int read_machine(const json_t *obj, struct manifest_machine *m, struct err *err) {
    static const char path[] = "machine";
    uint64_t cpus = 0;
    int r = CHECK_KEYS(obj, path, err, "vmm", "guest", "type", "accel", "cpu", "kernel_params", "agent_debug", "memory",
                       "cpus");
    for (size_t i = 0; r == 0 && i < MANIFEST_MACHINE_TEXTS; i++) {
        const struct manifest_text *t = &manifest_machine_texts[i];
        char **s = manifest_machine_text(m, i);
        r = t->is_id ? get_id(obj, path, t->key, s, err) : get_text(obj, path, t->key, t->max, s, err);
    }
    if (r < 0 || (r = json_get_bool(obj, path, "agent_debug", &m->agent_debug, err)) < 0 ||
        (r = get_u64(obj, path, "memory", MEMORY_PAGE, MEMORY_SEGMENT * MEMORY_SEGMENTS_MAX, &m->memory, err)) < 0 ||
        (r = get_u64(obj, path, "cpus", 1, MANIFEST_CPUS_MAX, &cpus, err)) < 0)
        return r;
    m->cpus = (uint32_t)cpus;
    return 0;
}

/* Of pages that the segment has; the digest knows whether they are the right ones. */
static int read_base(const json_t *v, const char *path, uint32_t index, struct memory_image *m, struct err *err) {
    uint64_t words[MEMORY_SEGMENT_CHUNKS], pages = 0;
    size_t n = memory_image_chunks(m, index);
    uint64_t *base = &m->base[index * MEMORY_SEGMENT_CHUNKS];
    if (!v)
        return 0;
    if (!parse_hex(v, (uint8_t *)words, n * sizeof(*words)))
        return err_set(err, EINVAL, "%s: the pages of the base must be %zu bytes in lower-case hexadecimal digits",
                       path, n * sizeof(*words));
    for (size_t i = 0; i < n; i++) {
        base[i] = le64toh(words[i]);
        pages += (uint64_t)__builtin_popcountll(base[i]);
    }
    if (pages == 0 || pages * MEMORY_PAGE > m->segments[index].data)
        return err_set(err, EINVAL, "%s: %llu pages of the base, and %llu bytes of data", path,
                       (unsigned long long)pages, (unsigned long long)m->segments[index].data);
    return 0;
}

/* [index, bytes of data, digest], and perhaps which pages are the base's; indices ascend. */
static int read_segment(const json_t *v, const char *path, int64_t *last, struct memory_image *m, struct err *err) {
    json_int_t index = json_integer_value(json_array_get(v, 0)), data = json_integer_value(json_array_get(v, 1));
    if (!json_is_array(v) || json_array_size(v) < 3 || json_array_size(v) > 4 ||
        !json_is_integer(json_array_get(v, 0)) || !json_is_integer(json_array_get(v, 1)))
        return err_set(err, EINVAL, "%s: must be [index, bytes, digest] or [index, bytes, digest, pages]", path);
    if (index <= *last || index >= (json_int_t)m->n)
        return err_set(err, EINVAL, "%s: its index must be above the one before and below %u", path, m->n);
    uint64_t room = MIN(MEMORY_SEGMENT, m->size - (uint64_t)index * MEMORY_SEGMENT);
    if (data <= 0 || (uint64_t)data > room || (uint64_t)data % MEMORY_PAGE)
        return err_set(err, EINVAL, "%s: its bytes must be pages up to %llu", path, (unsigned long long)room);
    *last = index;
    m->segments[index].data = (uint64_t)data;
    if (!parse_hex(json_array_get(v, 2), m->segments[index].digest, MEMORY_DIGEST_SIZE))
        return err_set(err, EINVAL, "%s: must have 128 bits of XXH3 in lower-case hexadecimal digits", path);
    return read_base(json_array_get(v, 3), path, (uint32_t)index, m, err);
}

static int read_memory(const json_t *obj, struct manifest *m, struct err *err) {
    static const char path[] = "memory";
    uint64_t size, segment;
    json_t *list = NULL;
    int r = CHECK_KEYS(obj, path, err, "size", "segment", "segments");
    if (r < 0 || (r = get_u64(obj, path, "size", 1, INT64_MAX, &size, err)) < 0 ||
        (r = get_u64(obj, path, "segment", MEMORY_SEGMENT, MEMORY_SEGMENT, &segment, err)) < 0 ||
        (r = json_get_array(obj, path, "segments", &list, err)) < 0)
        return r;
    if (size != m->machine.memory)
        return err_set(err, EINVAL, "memory.size: must be machine.memory, %llu", (unsigned long long)m->machine.memory);
    r = memory_image_new(size, &m->memory, err);
    if (r < 0)
        return err_wrap(err, "memory.size");
    if (json_array_size(list) > m->memory->n)
        return err_set(err, EINVAL, "memory.segments: more than %u", m->memory->n);
    int64_t last = -1;
    for (size_t i = 0; i < json_array_size(list) && r == 0; i++) {
        char at[48];
        snprintf(at, sizeof(at), "memory.segments[%zu]", i);
        r = read_segment(json_array_get(list, i), at, &last, m->memory, err);
    }
    if (r == 0 && m->is_template && memory_image_shared(m->memory))
        r = err_set(err, EINVAL, "memory: a template has no base");
    return r;
}

static int read_lowers(const json_t *root, const char *path, struct strv *ret, struct err *err) {
    json_t *list = NULL;
    int r = json_get_str_array(root, path, "lowers", &list, err);
    if (r < 0)
        return r;
    if (json_array_size(list) > MANIFEST_LOWERS_MAX)
        return err_set(err, EINVAL, "%s.lowers: more than %d", path, MANIFEST_LOWERS_MAX);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *s = json_string_value(json_array_get(list, i));
        if (strlen(s) > MANIFEST_PATH_MAX || !path_is_normal(s))
            return err_set(err, EINVAL, "%s.lowers[%zu]: must be an absolute path without . and .. of at most %d bytes",
                           path, i, MANIFEST_PATH_MAX);
        if (strv_add(ret, s) < 0)
            return err_set(err, ENOMEM, "out of memory");
    }
    return 0;
}

static int read_root(const json_t *obj, const char *path, struct manifest_root *root, struct err *err) {
    char at[64];
    snprintf(at, sizeof(at), "%s.sha256", path);
    int r = CHECK_KEYS(obj, path, err, "lowers", "entries", "bytes", "sha256");
    if (r < 0 || (r = read_lowers(obj, path, &root->lowers, err)) < 0 ||
        (r = get_u64(obj, path, "entries", 0, TREE_ENTRIES_MAX, &root->totals.entries, err)) < 0 ||
        (r = get_u64(obj, path, "bytes", 0, INT64_MAX, &root->totals.bytes, err)) < 0)
        return r;
    return parse_digest(at, json_object_get(obj, "sha256"), root->totals.sha256, err);
}

static int read_container(const json_t *v, size_t index, struct manifest_container *c, struct err *err) {
    char path[32], root_path[40];
    json_t *spec = NULL, *state = NULL, *root = NULL;
    snprintf(path, sizeof(path), "containers[%zu]", index);
    snprintf(root_path, sizeof(root_path), "%s.root", path);
    if (!json_is_object(v))
        return err_set(err, EINVAL, "%s: must be an object", path);
    int r = CHECK_KEYS(v, path, err, "id", "guest_id", "spec", "state", "root");
    if (r < 0 || (r = get_id(v, path, "id", &c->id, err)) < 0 ||
        (r = get_id(v, path, "guest_id", &c->guest_id, err)) < 0 || (r = get_obj(v, path, "spec", &spec, err)) < 0 ||
        (r = get_obj(v, path, "state", &state, err)) < 0 || (r = get_obj(v, path, "root", &root, err)) < 0)
        return r;
    c->spec = json_incref(spec);
    c->state = json_incref(state);
    return read_root(root, root_path, &c->root, err);
}

static int read_containers(const json_t *list, struct manifest *m, struct err *err) {
    size_t n = json_array_size(list);
    if (n > MANIFEST_CONTAINERS_MAX)
        return err_set(err, EINVAL, "containers: more than %d", MANIFEST_CONTAINERS_MAX);
    m->containers = calloc(n + 1, sizeof(*m->containers));
    if (!m->containers)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        m->n_containers = i + 1;
        const struct manifest_container *c = &m->containers[i];
        int r = read_container(json_array_get(list, i), i, &m->containers[i], err);
        if (r < 0)
            return r;
        for (size_t k = 0; k < i; k++)
            if (strcmp(c->id, m->containers[k].id) == 0 || strcmp(c->guest_id, m->containers[k].guest_id) == 0)
                return err_set(err, EINVAL, "containers[%zu]: has an id of containers[%zu]", i, k);
    }
    return 0;
}

static int read_top(const json_t *root, struct manifest *m, struct err *err) {
    const char *kind = "";
    json_t *machine = NULL, *device = NULL, *memory = NULL, *containers = NULL;
    uint64_t version = 0;
    int r;
    if (!json_is_object(root))
        return err_set(err, EINVAL, "must be an object");
    /* First: another version has other keys. */
    r = json_object_get(root, "version") ? get_u64(root, "", "version", 0, INT64_MAX, &version, err)
                                         : err_set(err, EINVAL, "version: is missing");
    if (r == 0 && version != MANIFEST_VERSION)
        r = err_set(err, EINVAL, "version: is %llu, and this stasis reads %d", (unsigned long long)version,
                    MANIFEST_VERSION);
    if (r < 0 ||
        (r = CHECK_KEYS(root, "", err, "version", "kind", "name", "sandbox", "stasis", "created_usec", "stopped_usec",
                        "machine", "device", "memory", "containers", "sha256")) < 0 ||
        (r = json_get_str(root, "", "kind", &kind, err)) < 0 || (r = get_id(root, "", "name", &m->name, err)) < 0 ||
        (r = get_id(root, "", "sandbox", &m->sandbox_id, err)) < 0 ||
        (r = get_text(root, "", "stasis", MANIFEST_WORD_MAX, &m->stasis_version, err)) < 0 ||
        (r = get_u64(root, "", "created_usec", 0, INT64_MAX, &m->created_wall_usec, err)) < 0 ||
        (r = get_u64(root, "", "stopped_usec", 0, INT64_MAX, &m->stopped_usec, err)) < 0 ||
        (r = get_obj(root, "", "machine", &machine, err)) < 0 || (r = get_obj(root, "", "device", &device, err)) < 0 ||
        (r = get_obj(root, "", "memory", &memory, err)) < 0 ||
        (r = json_get_array(root, "", "containers", &containers, err)) < 0)
        return r;
    m->is_template = strcmp(kind, "template") == 0;
    if (!m->is_template && strcmp(kind, "snapshot") != 0)
        return err_set(err, EINVAL, "kind: must be snapshot or template");
    if ((r = CHECK_KEYS(device, "device", err, "size", "sha256")) < 0 ||
        (r = get_u64(device, "device", "size", 0, INT64_MAX, &m->device_size, err)) < 0 ||
        (r = parse_digest("device.sha256", json_object_get(device, "sha256"), m->device_sha256, err)) < 0 ||
        (r = read_machine(machine, &m->machine, err)) < 0 || (r = read_memory(memory, m, err)) < 0)
        return r;
    return read_containers(containers, m, err);
}

/* Whatever is wrong with it is the file's fault. */
static int bad_message(int r, const struct err *e, struct err *err) {
    return err_set(err, r == -ENOMEM ? ENOMEM : EBADMSG, "%s: %s", MANIFEST_FILE, e->msg);
}

int manifest_from_json(const json_t *root, struct manifest *ret, struct err *err) {
    struct err e = ERR_INIT;
    struct manifest m = {0};
    int r = read_top(root, &m, &e);
    if (r < 0) {
        manifest_clear(&m);
        return bad_message(r, &e, err);
    }
    *ret = m;
    return 0;
}

static int check_digest(json_t *root, struct err *err) {
    uint8_t want[MANIFEST_DIGEST_SIZE], is[MANIFEST_DIGEST_SIZE];
    cleanup_json json_t *bare = json_copy_whole(root);
    int r = parse_digest("sha256", json_object_get(root, "sha256"), want, err);
    if (r < 0)
        return r;
    if (!bare || json_object_del(bare, "sha256") < 0 || manifest_digest_json(bare, is) < 0)
        return err_set(err, ENOMEM, "out of memory");
    if (memcmp(want, is, sizeof(is)) != 0)
        return err_set(err, EINVAL, "the contents do not fit the digest");
    return 0;
}

int manifest_parse(const char *text, size_t len, struct manifest *ret, struct err *err) {
    struct err e = ERR_INIT;
    json_error_t je;
    if (len > MANIFEST_MAX)
        return err_set(err, EBADMSG, "%s: larger than %zu bytes", MANIFEST_FILE, MANIFEST_MAX);
    cleanup_json json_t *root = json_load_whole(text, len, &je);
    if (!root && json_error_code(&je) == json_error_out_of_memory)
        return err_set(err, ENOMEM, "%s: out of memory", MANIFEST_FILE);
    if (!root)
        return err_set(err, EBADMSG, "%s: line %d, column %d: %s", MANIFEST_FILE, je.line, je.column, je.text);
    int r = json_is_object(root) ? check_digest(root, &e) : err_set(&e, EINVAL, "must be an object");
    return r < 0 ? bad_message(r, &e, err) : manifest_from_json(root, ret, err);
}

int manifest_read(int dirfd, struct manifest *ret, struct err *err) {
    struct stat st;
    cleanup_free char *text = NULL;
    size_t len;
    /* An imported one may be a FIFO or a link to anywhere. */
    cleanup_fd int fd = openat(dirfd, MANIFEST_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && (errno == ELOOP || errno == ENXIO))
        return err_set(err, EBADMSG, "%s: must be a regular file", MANIFEST_FILE);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot open %s", MANIFEST_FILE);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EBADMSG, "%s: must be a regular file", MANIFEST_FILE);
    int r = fd_read_all(fd, MANIFEST_MAX, &text, &len, err);
    if (r == -EFBIG)
        return err_set(err, EBADMSG, "%s: larger than %zu bytes", MANIFEST_FILE, MANIFEST_MAX);
    if (r < 0)
        return err_wrap(err, "%s", MANIFEST_FILE);
    return manifest_parse(text, len, ret, err);
}
