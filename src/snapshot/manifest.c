/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/manifest.h"

#include <endian.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <string.h>

#include "base/fd.h"
#include "base/json.h"
#include "snapshot/manifest_impl.h"

#define MANIFEST_BASE_TEXT (2 * MEMORY_SEGMENT_CHUNKS * sizeof(uint64_t) + 1)

const struct manifest_text manifest_machine_texts[MANIFEST_MACHINE_TEXTS] = {
    {"vmm", "VMM", offsetof(struct manifest_machine, vmm), ID_MAX, true},
    {"guest", "guest", offsetof(struct manifest_machine, guest), ID_MAX, true},
    {"type", "machine type", offsetof(struct manifest_machine, type), MANIFEST_WORD_MAX, false},
    {"accel", "accelerator", offsetof(struct manifest_machine, accel), MANIFEST_WORD_MAX, false},
    {"cpu", "CPU model", offsetof(struct manifest_machine, cpu), MANIFEST_TEXT_MAX, false},
    {"kernel_params", "kernel parameters", offsetof(struct manifest_machine, kernel_params), MANIFEST_TEXT_MAX, false},
};

char **manifest_machine_text(const struct manifest_machine *m, size_t i) {
    return (char **)((uintptr_t)m + manifest_machine_texts[i].offset);
}

static void clear_container(struct manifest_container *c) {
    free(c->id);
    free(c->guest_id);
    json_decref(c->spec);
    json_decref(c->state);
    strv_clear(&c->root.lowers);
}

void manifest_clear(struct manifest *m) {
    for (size_t i = 0; i < MANIFEST_MACHINE_TEXTS; i++)
        free(*manifest_machine_text(&m->machine, i));
    for (size_t i = 0; i < m->n_containers; i++)
        clear_container(&m->containers[i]);
    free(m->containers);
    free(m->name);
    free(m->sandbox_id);
    free(m->stasis_version);
    memory_image_free(m->memory);
    *m = (struct manifest){0};
}

static json_t *hex_of(const uint8_t *digest, size_t size) {
    char text[2 * MANIFEST_DIGEST_SIZE + 1];
    hex_format(digest, size, text);
    return json_string(text);
}

static json_t *hex(const uint8_t sha256[MANIFEST_DIGEST_SIZE]) {
    return hex_of(sha256, MANIFEST_DIGEST_SIZE);
}

static const char *or_empty(const char *s) {
    return s ? s : "";
}

static json_t *machine_json(const struct manifest_machine *m) {
    json_t *v = json_pack("{s:b, s:I, s:I}", "agent_debug", m->agent_debug, "memory", (json_int_t)m->memory, "cpus",
                          (json_int_t)m->cpus);
    for (size_t i = 0; v && i < MANIFEST_MACHINE_TEXTS; i++)
        if (json_object_set_new(v, manifest_machine_texts[i].key, json_string(or_empty(*manifest_machine_text(m, i)))) <
            0) {
            json_decref(v);
            return NULL;
        }
    return v;
}

/* The bits as bytes, from the segment's first pages on. False: none is set. */
static bool base_text(const struct memory_image *m, uint32_t index, char text[MANIFEST_BASE_TEXT]) {
    uint64_t words[MEMORY_SEGMENT_CHUNKS], any = 0;
    size_t n = memory_image_chunks(m, index);
    for (size_t i = 0; i < n; i++) {
        words[i] = htole64(m->base[index * MEMORY_SEGMENT_CHUNKS + i]);
        any |= words[i];
    }
    hex_format(words, n * sizeof(*words), text);
    return any;
}

/* [index, bytes, digest], and if it shares pages the bits. */
static json_t *segment_json(const struct memory_image *m, uint32_t index) {
    char text[MANIFEST_BASE_TEXT];
    const struct memory_segment *s = &m->segments[index];
    json_t *v = json_pack("[I, I, o]", (json_int_t)index, (json_int_t)s->data, hex_of(s->digest, MEMORY_DIGEST_SIZE));
    if (v && base_text(m, index, text) && json_array_append_new(v, json_string(text)) < 0) {
        json_decref(v);
        return NULL;
    }
    return v;
}

/* Only segments with data. */
static json_t *memory_json(const struct memory_image *m) {
    cleanup_json json_t *list = json_array();
    for (uint32_t i = 0; list && m && i < m->n; i++)
        if (m->segments[i].data && json_array_append_new(list, segment_json(m, i)) < 0)
            return NULL;
    return json_pack("{s:I, s:I, s:O}", "size", (json_int_t)(m ? m->size : 0), "segment", (json_int_t)MEMORY_SEGMENT,
                     "segments", list);
}

static json_t *root_json(const struct manifest_root *r) {
    cleanup_json json_t *lowers = json_array();
    for (size_t i = 0; lowers && i < r->lowers.n; i++)
        if (json_array_append_new(lowers, json_string(r->lowers.v[i])) < 0)
            return NULL;
    return json_pack("{s:O, s:I, s:I, s:o}", "lowers", lowers, "entries", (json_int_t)r->totals.entries, "bytes",
                     (json_int_t)r->totals.bytes, "sha256", hex(r->totals.sha256));
}

static json_t *containers_json(const struct manifest *m) {
    cleanup_json json_t *list = json_array();
    for (size_t i = 0; list && i < m->n_containers; i++) {
        const struct manifest_container *c = &m->containers[i];
        json_t *v = json_pack("{s:s, s:s, s:O?, s:O?, s:o}", "id", or_empty(c->id), "guest_id", or_empty(c->guest_id),
                              "spec", c->spec, "state", c->state, "root", root_json(&c->root));
        if (json_array_append_new(list, v) < 0)
            return NULL;
    }
    return json_incref(list);
}

json_t *manifest_json(const struct manifest *m) {
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:{s:I, s:o}, s:o, s:o}", "version", MANIFEST_VERSION,
                     "kind", m->is_template ? "template" : "snapshot", "name", or_empty(m->name), "sandbox",
                     or_empty(m->sandbox_id), "stasis", or_empty(m->stasis_version), "created_usec",
                     (json_int_t)m->created_wall_usec, "stopped_usec", (json_int_t)m->stopped_usec, "machine",
                     machine_json(&m->machine), "device", "size", (json_int_t)m->device_size, "sha256",
                     hex(m->device_sha256), "memory", memory_json(m->memory), "containers", containers_json(m));
}

int manifest_digest_json(const json_t *v, uint8_t ret[MANIFEST_DIGEST_SIZE]) {
    cleanup_free char *text = json_text(v, MANIFEST_JSON_FLAGS);
    struct sha256_ctx sha;
    if (!text)
        return -ENOMEM;
    sha256_init(&sha);
    sha256_update(&sha, strlen(text), (const uint8_t *)text);
    sha256_digest(&sha, MANIFEST_DIGEST_SIZE, ret);
    return 0;
}

static int text_with_digest(const struct manifest *m, char **ret) {
    uint8_t sha256[MANIFEST_DIGEST_SIZE];
    cleanup_json json_t *v = manifest_json(m);
    if (!v || manifest_digest_json(v, sha256) < 0 || json_object_set_new(v, "sha256", hex(sha256)) < 0)
        return -ENOMEM;
    *ret = json_text(v, MANIFEST_JSON_FLAGS);
    return *ret ? 0 : -ENOMEM;
}

int manifest_write(int dirfd, const struct manifest *m, struct err *err) {
    cleanup_free char *text = NULL;
    if (text_with_digest(m, &text) < 0)
        return err_set(err, ENOMEM, "%s: out of memory, or a text that is not UTF-8", MANIFEST_FILE);
    size_t len = strlen(text);
    if (len > MANIFEST_MAX)
        return err_set(err, EFBIG, "%s: larger than %zu bytes", MANIFEST_FILE, MANIFEST_MAX);
    /* A snapshot that could not be read back is no snapshot: better to know now. */
    struct err bad = ERR_INIT;
    cleanup_manifest struct manifest check = {0};
    int r = manifest_parse(text, len, &check, &bad);
    if (r < 0)
        return err_set(err, r == -ENOMEM ? ENOMEM : EINVAL, "%s", bad.msg);
    cleanup_fd int fd = openat(dirfd, MANIFEST_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(err, errno, "cannot create %s", MANIFEST_FILE);
    r = fd_write_all(fd, text, len);
    return r < 0 ? err_errno(err, -r, "cannot write %s", MANIFEST_FILE) : 0;
}

static int differs(const char *what, const char *made, const char *here, struct err *err) {
    return err_set(err, EBADMSG, "%s: it was made with \"%s\", here is \"%s\"", what, made, here);
}

static int number_differs(const char *what, uint64_t made, uint64_t here, struct err *err) {
    return err_set(err, EBADMSG, "%s: it was made with %llu, here is %llu", what, (unsigned long long)made,
                   (unsigned long long)here);
}

int manifest_check_machine(const struct manifest_machine *made, const struct manifest_machine *here, struct err *err) {
    for (size_t i = 0; i < MANIFEST_MACHINE_TEXTS; i++) {
        const char *a = or_empty(*manifest_machine_text(made, i)), *b = or_empty(*manifest_machine_text(here, i));
        if (strcmp(a, b) != 0)
            return differs(manifest_machine_texts[i].what, a, b, err);
    }
    if (made->agent_debug != here->agent_debug)
        return differs("agent's debugging", made->agent_debug ? "on" : "off", here->agent_debug ? "on" : "off", err);
    if (made->memory != here->memory)
        return number_differs("memory in bytes", made->memory, here->memory, err);
    if (made->cpus != here->cpus)
        return number_differs("CPUs", made->cpus, here->cpus, err);
    return 0;
}
