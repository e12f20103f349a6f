/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/archive_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"

static void round_trip(void **state) {
    (void)state;
    char id[] = "box1", name[] = "n\u00e4me \"x\"", image[] = "registry.example/redis:7";
    const struct archive_config a = {.id = id,
                                     .name = name,
                                     .rootfs_image = image,
                                     .created_wall_usec = UINT64_C(1767323045123456),
                                     .checkpointed_wall_usec = UINT64_C(1767323045000000),
                                     .restored = true};
    cleanup_archive_config struct archive_config b = {0};
    struct err e = ERR_INIT;
    cleanup_free char *text = archive_config_text(&a);
    if (archive_config_parse(text, strlen(text), &b, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(b.id, id);
    assert_string_equal(b.name, name);
    assert_string_equal(b.rootfs_image, image);
    assert_null(b.rootfs_image_ref);
    assert_null(b.runtime);
    assert_true(b.created_wall_usec == a.created_wall_usec);
    assert_true(b.checkpointed_wall_usec == a.checkpointed_wall_usec);
    assert_int_equal(b.restored_wall_usec, 0);
    assert_true(b.restored);
}

/* Podman writes its whole configuration there. */
static void reads_what_others_write(void **state) {
    (void)state;
    static const char text[] =
        "{\"id\":\"ab\",\"name\":\"r\",\"rootfsImageName\":\"i\",\"rootfsImageRef\":\"sha256:1\","
        "\"runtime\":\"crun\",\"createdTime\":\"2026-01-02T03:04:05.123456789+02:00\","
        "\"restoredTime\":\"0001-01-01T00:00:00Z\",\"spec\":{\"x\":[1]},\"lockID\":7}";
    cleanup_archive_config struct archive_config c = {0};
    assert_int_equal(archive_config_parse(text, strlen(text), &c, NULL), 0);
    assert_string_equal(c.id, "ab");
    assert_string_equal(c.rootfs_image_name, "i");
    assert_string_equal(c.rootfs_image_ref, "sha256:1");
    assert_string_equal(c.runtime, "crun");
    assert_true(c.created_wall_usec == UINT64_C(1767315845123456));
    assert_int_equal(c.restored_wall_usec, 0);
}

static void refuses(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[]", "config.dump: must be a JSON object"},
        {"{\"id\":1}", "config.dump.id: must be a string"},
        {"{\"name\":\"a\\u001b[2J\"}", "config.dump.name: has control characters"},
        {"{\"runtime\":\"a\\u009b\"}", "config.dump.runtime: has control characters"},
        {"{\"createdTime\":\"yesterday\"}", "config.dump.createdTime: must be a time"},
        {"{\"restored\":1}", "config.dump.restored: must be true or false"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct archive_config c = {0};
        struct err e = ERR_INIT;
        assert_int_equal(archive_config_parse(cases[i].text, strlen(cases[i].text), &c, &e), -EINVAL);
        assert_string_equal(e.msg, cases[i].message);
        assert_null(c.id);
    }
    char large[ARCHIVE_TEXT_MAX + 32] = "{\"id\":\"";
    memset(large + 7, 'x', ARCHIVE_TEXT_MAX + 1);
    strcat(large, "\"}");
    struct archive_config c = {0};
    struct err e = ERR_INIT;
    assert_int_equal(archive_config_parse(large, strlen(large), &c, &e), -EINVAL);
    assert_string_equal(e.msg, "config.dump.id: longer than 1024 bytes");
    assert_int_equal(archive_config_parse("{}", ARCHIVE_CONFIG_MAX + 1, &c, &e), -EFBIG);
}

static void times(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t usec;
    } good[] = {
        {"1970-01-01T00:00:01Z", 1000000},
        {"1970-01-01T00:00:00.5Z", 500000},
        {"1970-01-01T02:00:00.000001999+02:00", 1},
        {"1969-12-31T23:30:00-00:45", 900000000},
        {"0001-01-01T00:00:00Z", 0},
        {"2024-02-29T12:00:00Z", UINT64_C(1709208000000000)},
    };
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-01-02",
                                      "2026-13-02T03:04:05Z",
                                      "2026-01-00T03:04:05Z",
                                      "2026-01-02T24:04:05Z",
                                      "2026-01-02T03:04:05",
                                      "2026-01-02T03:04:05.Z",
                                      "2026-01-02T03:04:05Zx",
                                      "2026-01-02T03:04:05+2:00",
                                      "2026-01-02T03:04:05+25:00",
                                      "-026-01-02T03:04:05Z",
                                      "2026-01-02 03:04:05Z"};
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        uint64_t usec = 7;
        assert_int_equal(archive_time_parse(good[i].text, &usec), 0);
        assert_true(usec == good[i].usec);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        uint64_t usec = 7;
        assert_int_equal(archive_time_parse(bad[i], &usec), -EINVAL);
        assert_int_equal(usec, 7);
    }
}

static void engines(void **state) {
    (void)state;
    static const struct {
        const char *spec, *engine;
    } cases[] = {
        {"{}", "containerd"},
        {"{\"annotations\":{}}", "containerd"},
        {"{\"annotations\":{\"io.container.manager\":\"libpod\"}}", "podman"},
        {"{\"annotations\":{\"io.container.manager\":\"cri-o\"}}", "cri-o"},
        {"{\"annotations\":{\"io.container.manager\":\"stasis\"}}", "stasis"},
        {"{\"annotations\":{\"io.container.manager\":\"other\"}}", "containerd"},
    };
    const char *engine = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(archive_engine(cases[i].spec, strlen(cases[i].spec), &engine, NULL), 0);
        assert_string_equal(engine, cases[i].engine);
    }
    struct err e = ERR_INIT;
    assert_int_equal(archive_engine("{\"annotations\":[]}", 18, &engine, &e), -EINVAL);
    assert_string_equal(e.msg, "spec.dump.annotations: must be an object");
}

/* What CRI-O reads of a config.dump and a spec.dump, and containerd's CRI writes into a specification. */
static void fills_from_annotations(void **state) {
    (void)state;
    static const char crio[] = "{\"annotations\":{\"io.kubernetes.cri-o.Name\":\"k8s_web_0\","
                               "\"io.kubernetes.cri-o.Image\":\"busybox\",\"io.kubernetes.cri-o.ImageRef\":\"abc\","
                               "\"io.kubernetes.cri-o.ImageName\":\"docker.io/library/busybox:1\"},"
                               "\"mounts\":[{\"destination\":\"/dev/shm\",\"type\":\"bind\"}]}";
    static const char cri[] = "{\"annotations\":{\"io.kubernetes.cri.container-name\":\"web\","
                              "\"io.kubernetes.cri.image-name\":\"docker.io/library/busybox:1\"},"
                              "\"mounts\":[{\"destination\":\"/dev/shm\",\"type\":\"tmpfs\"}]}";
    struct err e = ERR_INIT;
    {
        cleanup_archive_config struct archive_config c = {0};
        cleanup_json json_t *spec = json_loads(crio, 0, NULL), *out = NULL;
        assert_int_equal(archive_config_from_spec(spec, &c, &e), 0);
        cleanup_free char *text = archive_config_text(&c);
        out = json_loads(text, 0, NULL);
        static const char *const wanted[][2] = {{"name", "k8s_web_0"},
                                                {"rootfsImage", "busybox"},
                                                {"rootfsImageRef", "abc"},
                                                {"rootfsImageID", "abc"},
                                                {"rootfsImageName", "docker.io/library/busybox:1"}};
        for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
            assert_string_equal(json_string_value(json_object_get(out, wanted[i][0])), wanted[i][1]);
        assert_true(json_is_false(json_object_get(out, "NoShm")));
    }
    {
        /* What is set stays. */
        cleanup_archive_config struct archive_config c = {.rootfs_image_name = strdup("mine")};
        cleanup_json json_t *spec = json_loads(cri, 0, NULL);
        assert_int_equal(archive_config_from_spec(spec, &c, &e), 0);
        assert_string_equal(c.name, "web");
        assert_string_equal(c.rootfs_image_name, "mine");
        assert_null(c.rootfs_image_id);
        assert_true(c.own_shm);
    }
    cleanup_archive_config struct archive_config c = {0};
    cleanup_json json_t *bad = json_pack("{s:{s:s}}", "annotations", "io.kubernetes.cri-o.Name", "a\nb");
    assert_int_equal(archive_config_from_spec(bad, &c, &e), -EINVAL);
    assert_string_equal(e.msg, "spec.dump.annotations.io.kubernetes.cri-o.Name: has control characters");
}

static void annotates(void **state) {
    (void)state;
#define MANAGED "\"io.container.manager\":\"stasis\""
#define CRIO_KEY "\"io.kubernetes.cri-o.Annotations\":\"{}\""
#define CRI_KEY "\"io.kubernetes.cri.container-name\":\"a\\\"b\""
    static const struct {
        const char *from, *to;
    } cases[] = {
        {"{}", "{\"annotations\":{" MANAGED "," CRIO_KEY "," CRI_KEY "}}"},
        {" {\"a\":18446744073709551615}",
         " {\"annotations\":{" MANAGED "," CRIO_KEY "," CRI_KEY "},\"a\":18446744073709551615}"},
        {"{\"b\":[1], \"annotations\" :\n{}}",
         "{\"b\":[1], \"annotations\" :\n{" MANAGED "," CRIO_KEY "," CRI_KEY "}}"},
        {"{\"annotations\": null,\"c\":2}", "{\"annotations\": {" MANAGED "," CRIO_KEY "," CRI_KEY "},\"c\":2}"},
        /* Of the same name, and elsewhere. */
        {"{\"x\":{\"annotations\":{}},\"y\":\"\\\"annotations\\\":{\",\"annotations\":{\"k\":\"v\"}}",
         "{\"x\":{\"annotations\":{}},\"y\":\"\\\"annotations\\\":{\",\"annotations\":{" MANAGED "," CRIO_KEY
         "," CRI_KEY ",\"k\":\"v\"}}"},
        {"{\"annotations\":{\"io.container.manager\":\"libpod\"}}",
         "{\"annotations\":{" CRIO_KEY ",\"io.container.manager\":\"libpod\"}}"},
        {"{\"annotations\":{" MANAGED "," CRIO_KEY "}}", "{\"annotations\":{" MANAGED "," CRIO_KEY "}}"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        cleanup_free char *text = NULL;
        struct err e = ERR_INIT;
        if (archive_spec_annotate(cases[i].from, "a\"b", &text, &e) < 0)
            fail_msg("%s", e.msg);
        assert_string_equal(text, cases[i].to);
        cleanup_json json_t *v = NULL;
        assert_int_equal(json_parse("it", text, strlen(text), &v, &e), 0);
    }
    char *text = NULL;
    assert_int_equal(archive_spec_annotate("{\"annotations\":[]}", "a", &text, NULL), -EINVAL);
    assert_null(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip), cmocka_unit_test(reads_what_others_write),
        cmocka_unit_test(refuses),    cmocka_unit_test(times),
        cmocka_unit_test(engines),    cmocka_unit_test(fills_from_annotations),
        cmocka_unit_test(annotates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
