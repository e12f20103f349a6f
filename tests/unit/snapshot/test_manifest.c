/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "manifests.h"
#include "support.h"

static int dir_fd(const struct tmpdir *t) {
    int fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void assert_same(const struct manifest *a, const struct manifest *b) {
    cleanup_json json_t *x = manifest_json(a), *y = manifest_json(b);
    assert_non_null(x);
    assert_true(json_equal(x, y));
    assert_memory_equal(a->memory->segments, b->memory->segments, a->memory->n * sizeof(*a->memory->segments));
    assert_int_equal(memory_image_shared(a->memory), memory_image_shared(b->memory));
    assert_memory_equal(a->memory->base, b->memory->base, SAMPLE_MEMORY / MEMORY_CHUNK * sizeof(*a->memory->base));
    assert_memory_equal(a->device_sha256, b->device_sha256, sizeof(a->device_sha256));
    assert_memory_equal(&a->containers[1].root.totals, &b->containers[1].root.totals, sizeof(struct tree_totals));
}

static void goes_there_and_back(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int dir = dir_fd(t);
    cleanup_manifest struct manifest m = sample_manifest(), back = {0};
    assert_int_equal(manifest_write(dir, &m, &e), 0);
    assert_int_equal(manifest_read(dir, &back, &e), 0);
    assert_same(&m, &back);
    assert_false(back.is_template);
    assert_string_equal(back.containers[1].root.lowers.v[1], "/var/lib/b");
    assert_int_equal(json_real_value(json_object_get(back.containers[0].spec, "half")) * 10, 1);
    struct stat st;
    assert_int_equal(fstatat(dir, MANIFEST_FILE, &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(manifest_write(dir, &m, &e), -EEXIST);
}

static void a_template_has_no_containers(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int dir = dir_fd(t);
    cleanup_manifest struct manifest back = {0}, m = sample_manifest();
    size_t n = m.n_containers;
    m.is_template = true;
    m.memory->base[2 * MEMORY_SEGMENT_CHUNKS] = 0; /* nor a base */
    m.n_containers = 0;
    assert_int_equal(manifest_write(dir, &m, &e), 0);
    m.n_containers = n;
    assert_int_equal(manifest_read(dir, &back, &e), 0);
    assert_true(back.is_template);
    assert_int_equal(back.n_containers, 0);
    manifest_clear(&back);
    manifest_clear(&back);
}

/* Every byte counts: one that is changed is noticed, or changes nothing (the last digit of a fraction). */
static void every_flipped_bit_is_noticed(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int dir = dir_fd(t);
    cleanup_manifest struct manifest m = sample_manifest();
    cleanup_free char *text = NULL;
    size_t len, unnoticed = 0;
    assert_int_equal(manifest_write(dir, &m, &e), 0);
    assert_int_equal(file_read_at(dir, MANIFEST_FILE, MANIFEST_MAX, &text, &len, &e), 0);
    for (size_t i = 0; i < len; i++) {
        struct manifest bad = {0};
        text[i] ^= 1;
        int r = manifest_parse(text, len, &bad, &e);
        if (r == 0)
            assert_same(&m, &bad);
        else
            assert_true(r == -EBADMSG && strncmp(e.msg, "manifest.json: ", 15) == 0);
        unnoticed += r == 0;
        manifest_clear(&bad);
        text[i] ^= 1;
        assert_int_equal(manifest_parse(text, i, &bad, &e), -EBADMSG);
        assert_null(bad.name);
    }
    assert_true(unnoticed <= 2);
}

static void put_text(int dir, const char *text) {
    cleanup_fd int fd = openat(dir, MANIFEST_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static void what_is_no_manifest_is_refused(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int dir = dir_fd(t);
    struct manifest m = {0};
    assert_int_equal(manifest_read(dir, &m, &e), -ENOENT);
    static const char *const bad[] = {
        "", "x", "[]", "{}", "{\"sha256\":1}", "{\"sha256\":\"00\"}", "{\"a\":1,\"a\":1}", "{} x"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        put_text(dir, bad[i]);
        assert_int_equal(manifest_read(dir, &m, &e), -EBADMSG);
    }
    cleanup_free char *deep = calloc(1, 200001);
    memset(deep, '[', 200000);
    put_text(dir, deep);
    assert_int_equal(manifest_read(dir, &m, &e), -EBADMSG);

    cleanup_fd int fd = openat(dir, MANIFEST_FILE, O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)MANIFEST_MAX + 1), 0);
    assert_int_equal(manifest_read(dir, &m, &e), -EBADMSG);
    assert_string_equal(e.msg, "manifest.json: larger than 67108864 bytes");

    assert_int_equal(renameat(dir, MANIFEST_FILE, dir, "other"), 0);
    assert_int_equal(symlinkat("other", dir, MANIFEST_FILE), 0);
    assert_int_equal(manifest_read(dir, &m, &e), -EBADMSG);
    assert_int_equal(unlinkat(dir, MANIFEST_FILE, 0), 0);
    assert_int_equal(mkfifoat(dir, MANIFEST_FILE, 0600), 0);
    assert_int_equal(manifest_read(dir, &m, &e), -EBADMSG);
    assert_string_equal(e.msg, "manifest.json: must be a regular file");
}

/* A copy of the sample with the value at a path ("a.b[1].c", NULL text: removed) replaced by JSON text. */
static json_t *changed(const char *path, const char *text) {
    cleanup_manifest struct manifest m = sample_manifest();
    json_t *root = manifest_json(&m), *at = root;
    assert_int_equal(json_object_set_new(root, "sha256", json_string("")), 0);
    cleanup_free char *copy = strdup(path);
    char *save = NULL, *part = strtok_r(copy, ".[]", &save);
    for (char *next; (next = strtok_r(NULL, ".[]", &save)); part = next)
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(part)) : json_object_get(at, part);
    json_t *value = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    assert_true(!text || value);
    if (json_is_array(at))
        assert_int_equal(json_array_set_new(at, (size_t)atoi(part), value), 0);
    else if (value)
        assert_int_equal(json_object_set_new(at, part, value), 0);
    else
        assert_int_equal(json_object_del(at, part), 0);
    return root;
}

#define DIGEST "\"0000000000000000000000000000000000000000000000000000000000000000\""

static void every_field_is_checked(void **state) {
    (void)state;
    static const struct {
        const char *path, *text, *message;
    } cases[] = {
        {"version", "1", "version: is 1, and this stasis reads 4"},
        {"version", "\"2\"", "version: must be a whole number"},
        {"version", NULL, "version: is missing"},
        {"extra", "1", "extra: is not known"},
        {"kind", "\"other\"", "kind: must be snapshot or template"},
        {"kind", "1", "kind: must be a string"},
        {"name", "\"../x\"", "name: invalid id"},
        {"name", "\"\"", "name: invalid id"},
        {"name", "null", "name: is missing"},
        {"sandbox", "\"a/b\"", "sandbox: invalid id"},
        {"stasis", "\"a\\nb\"", "stasis: must have no control characters"},
        {"created_usec", "-1", "created_usec: must be a whole number from 0"},
        {"stopped_usec", "1.5", "stopped_usec: must be a whole number"},
        {"device", "[]", "device: must be an object"},
        {"device.size", "-1", "device.size: must be"},
        {"device.sha256", "\"00\"", "device.sha256: must be a SHA-256"},
        {"device.more", "1", "device.more: is not known"},
        {"machine", "1", "machine: must be an object"},
        {"machine.vmm", "\"..\"", "machine.vmm: invalid id"},
        {"machine.guest", "\"a b\"", "machine.guest: invalid id"},
        {"machine.cpu", "7", "machine.cpu: must be a string"},
        {"machine.kernel_params", "\"a\\u007f\"", "machine.kernel_params: must have no control characters"},
        {"machine.agent_debug", "1", "machine.agent_debug: must be true or false"},
        {"machine.memory", "0", "machine.memory: must be"},
        {"machine.memory", "1099511631872", "machine.memory: must be"},
        {"machine.memory", "4096", "memory.size: must be machine.memory, 4096"},
        {"machine.cpus", "0", "machine.cpus: must be a whole number from 1 to 255"},
        {"machine.cpus", "256", "machine.cpus: must be a whole number from 1 to 255"},
        {"machine.type", NULL, "machine.type: is missing"},
        {"memory.size", "4097", "memory.size: must be machine.memory"},
        {"memory.segment", "4096", "memory.segment: must be a whole number from 16777216 to 16777216"},
        {"memory.segments", "{}", "memory.segments: must be an array"},
        {"memory.segments", "[1,2,3,4]", "memory.segments: more than 3"},
        {"memory.segments[0]", "[]", "memory.segments[0]: must be [index, bytes, digest]"},
        {"memory.segments[0]", "[0, 4096]", "memory.segments[0]: must be [index, bytes, digest]"},
        {"memory.segments[0][0]", "\"0\"", "memory.segments[0]: must be [index, bytes, digest]"},
        {"memory.segments[0][0]", "-1", "memory.segments[0]: its index must be above"},
        {"memory.segments[1][0]", "0", "memory.segments[1]: its index must be above"},
        {"memory.segments[1][0]", "3", "memory.segments[1]: its index must be above"},
        {"memory.segments[0][1]", "0", "memory.segments[0]: its bytes must be pages up to 16777216"},
        {"memory.segments[0][1]", "4097", "memory.segments[0]: its bytes must be pages"},
        {"memory.segments[0][1]", "16781312", "memory.segments[0]: its bytes must be pages"},
        {"memory.segments[1][1]", "20480", "memory.segments[1]: its bytes must be pages up to 16384"},
        {"memory.segments[1][2]", "null", "memory.segments[1]: must have 128 bits of XXH3"},
        {"kind", "\"template\"", "memory: a template has no base"},
        {"memory.segments[0]", "[0, 4096, \"00\", 4, 5]", "memory.segments[0]: must be [index, bytes, digest]"},
        {"memory.segments[1][3]", "\"02000000000000\"", "memory.segments[1]: the pages of the base must be 8 bytes"},
        {"memory.segments[1][3]", "\"0x00000000000000\"", "memory.segments[1]: the pages of the base must be 8 bytes"},
        {"memory.segments[1][3]", "2", "memory.segments[1]: the pages of the base must be 8 bytes"},
        {"memory.segments[1][3]", "\"0000000000000000\"", "memory.segments[1]: 0 pages of the base, and 8192 bytes"},
        {"memory.segments[1][3]", "\"0700000000000000\"", "memory.segments[1]: 3 pages of the base, and 8192 bytes"},
        {"containers", "{}", "containers: must be an array"},
        {"containers[0]", "1", "containers[0]: must be an object"},
        {"containers[0].id", "\"x/y\"", "containers[0].id: invalid id"},
        {"containers[1].id", "\"c1\"", "containers[1]: has an id of containers[0]"},
        {"containers[1].guest_id", "\"g1\"", "containers[1]: has an id of containers[0]"},
        {"containers[1].spec", "[]", "containers[1].spec: must be an object"},
        {"containers[1].state", "\"\"", "containers[1].state: must be an object"},
        {"containers[1].state", NULL, "containers[1].state: is missing"},
        {"containers[1].root.lowers", "7", "containers[1].root.lowers: must be an array"},
        {"containers[1].root.lowers[1]", "\"a\"", "containers[1].root.lowers[1]: must be an absolute path"},
        {"containers[1].root.lowers[1]", "\"/a/../b\"", "containers[1].root.lowers[1]: must be an absolute path"},
        {"containers[1].root.entries", "10000001", "containers[1].root.entries: must be"},
        {"containers[1].root.bytes", "-1", "containers[1].root.bytes: must be"},
        {"containers[1].root.sha256", "\"A\"", "containers[1].root.sha256: must be a SHA-256"},
        {"sha256", NULL, "sha256: is missing"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct err e = ERR_INIT;
        struct manifest m = {0};
        cleanup_json json_t *root = changed(cases[i].path, cases[i].text);
        assert_int_equal(manifest_from_json(root, &m, &e), -EBADMSG);
        assert_int_equal(strncmp(e.msg, "manifest.json: ", 15), 0);
        if (strncmp(e.msg + 15, cases[i].message, strlen(cases[i].message)) != 0)
            fail_msg("%s: \"%s\"", cases[i].path, e.msg);
        assert_null(m.name);
    }
}

static json_t *long_string(size_t n, char first) {
    cleanup_free char *s = malloc(n + 1);
    memset(s, 'a', n);
    s[0] = first;
    s[n] = '\0';
    return json_string(s);
}

static int parse_with(const char *path, json_t *value) {
    struct manifest m = {0};
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    cleanup_json json_t *root = changed(path, text);
    json_decref(value);
    free(text);
    int r = manifest_from_json(root, &m, NULL);
    manifest_clear(&m);
    return r;
}

static json_t *repeat(json_t *value, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        assert_int_equal(json_array_append(list, value), 0);
    json_decref(value);
    return list;
}

static json_t *containers(size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        char id[32];
        snprintf(id, sizeof(id), "c%zu", i);
        json_t *root =
            json_pack("{s:[], s:i, s:i, s:s#}", "lowers", "entries", 0, "bytes", 0, "sha256", &DIGEST[1], 64);
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:{}, s:{}, s:o}", "id", id, "guest_id", id, "spec", "state", "root", root));
    }
    return list;
}

/* Each bound, at it and one above. */
static void bounds(void **state) {
    (void)state;
    static const struct {
        const char *path;
        size_t max;
        char first;
    } texts[] = {
        {"name", ID_MAX, 'a'},
        {"machine.vmm", ID_MAX, 'a'},
        {"stasis", MANIFEST_WORD_MAX, 'a'},
        {"machine.type", MANIFEST_WORD_MAX, 'a'},
        {"machine.accel", MANIFEST_WORD_MAX, 'a'},
        {"machine.cpu", MANIFEST_TEXT_MAX, 'a'},
        {"machine.kernel_params", MANIFEST_TEXT_MAX, 'a'},
        {"containers[1].guest_id", ID_MAX, 'a'},
        {"containers[1].root.lowers[0]", MANIFEST_PATH_MAX, '/'},
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        assert_int_equal(parse_with(texts[i].path, long_string(texts[i].max, texts[i].first)), 0);
        assert_int_equal(parse_with(texts[i].path, long_string(texts[i].max + 1, texts[i].first)), -EBADMSG);
    }
    assert_int_equal(parse_with("containers[0].root.lowers", repeat(json_string("/a"), MANIFEST_LOWERS_MAX)), 0);
    assert_int_equal(parse_with("containers[0].root.lowers", repeat(json_string("/a"), MANIFEST_LOWERS_MAX + 1)),
                     -EBADMSG);
    assert_int_equal(parse_with("containers", containers(MANIFEST_CONTAINERS_MAX)), 0);
    assert_int_equal(parse_with("containers", containers(MANIFEST_CONTAINERS_MAX + 1)), -EBADMSG);
    assert_int_equal(parse_with("containers[0].root.entries", json_integer(TREE_ENTRIES_MAX)), 0);
    assert_int_equal(parse_with("machine.cpus", json_integer(MANIFEST_CPUS_MAX)), 0);
}

/* What could not be read is not written. */
static void bad_ones_are_not_written(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int dir = dir_fd(t);
    cleanup_manifest struct manifest m = sample_manifest();
    m.machine.cpus = 0;
    assert_int_equal(manifest_write(dir, &m, &e), -EINVAL);
    assert_string_equal(e.msg, "manifest.json: machine.cpus: must be a whole number from 1 to 255");
    m.machine.cpus = 1;
    free(m.containers[0].id);
    m.containers[0].id = NULL;
    assert_int_equal(manifest_write(dir, &m, &e), -EINVAL);
    assert_int_equal(faccessat(dir, MANIFEST_FILE, F_OK, 0), -1);
}

static void no_room_is_an_error(void **state) {
    struct tmpdir *t = *state;
    struct err e = ERR_INIT;
    cleanup_fd int dir = dir_fd(t);
    cleanup_manifest struct manifest m = sample_manifest();
    cleanup_free char *big = calloc(1, 2 * SMALL_BYTES);
    memset(big, 'x', 2 * SMALL_BYTES - 1);
    json_object_set_new(m.containers[0].spec, "big", json_string(big));
    assert_int_equal(manifest_write(dir, &m, &e), -ENOSPC);
    assert_string_equal(e.msg, "cannot write manifest.json: No space left on device");
}

static void differences_of_machines_are_named(void **state) {
    (void)state;
    struct err e = ERR_INIT;
    cleanup_manifest struct manifest a = sample_manifest(), b = sample_manifest();
    assert_int_equal(manifest_check_machine(&a.machine, &b.machine, &e), 0);
    static const struct {
        size_t offset;
        const char *message;
    } texts[] = {
        {offsetof(struct manifest_machine, vmm), "VMM: it was made with \"abc\", here is \"new\""},
        {offsetof(struct manifest_machine, guest), "guest: it was made with \"def\", here is \"new\""},
        {offsetof(struct manifest_machine, type), "machine type: it was made with \"q35\", here is \"new\""},
        {offsetof(struct manifest_machine, accel), "accelerator: it was made with \"tcg\", here is \"new\""},
        {offsetof(struct manifest_machine, cpu), "CPU model: it was made with \"host:0123\", here is \"new\""},
        {offsetof(struct manifest_machine, kernel_params),
         "kernel parameters: it was made with \"quiet \"x\" \xc3\xa4\", here is \"new\""},
    };
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        char **s = (char **)((char *)&b.machine + texts[i].offset), *old = *s, new[] = "new";
        *s = new;
        assert_int_equal(manifest_check_machine(&a.machine, &b.machine, &e), -EBADMSG);
        assert_string_equal(e.msg, texts[i].message);
        *s = old;
    }
    b.machine.agent_debug = false;
    assert_int_equal(manifest_check_machine(&a.machine, &b.machine, &e), -EBADMSG);
    assert_string_equal(e.msg, "agent's debugging: it was made with \"on\", here is \"off\"");
    b.machine.agent_debug = true;
    b.machine.memory += 4096;
    assert_int_equal(manifest_check_machine(&a.machine, &b.machine, &e), -EBADMSG);
    assert_string_equal(e.msg, "memory in bytes: it was made with 33570816, here is 33574912");
    b.machine.memory -= 4096;
    b.machine.cpus = 3;
    assert_int_equal(manifest_check_machine(&a.machine, &b.machine, &e), -EBADMSG);
    assert_string_equal(e.msg, "CPUs: it was made with 2, here is 3");
}

int main(void) {
#define WITH_DIR(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)
    const struct CMUnitTest tests[] = {
        WITH_DIR(goes_there_and_back),
        WITH_DIR(a_template_has_no_containers),
        WITH_DIR(every_flipped_bit_is_noticed),
        WITH_DIR(what_is_no_manifest_is_refused),
        cmocka_unit_test(every_field_is_checked),
        cmocka_unit_test(bounds),
        WITH_DIR(bad_ones_are_not_written),
        cmocka_unit_test_setup_teardown(no_room_is_an_error, small_setup, small_teardown),
        cmocka_unit_test(differences_of_machines_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
