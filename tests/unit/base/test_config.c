/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/config.h"
#include "tmpdir.h"

static void defaults(void **state) {
    (void)state;
    struct config c;
    memset(&c, 0xff, sizeof(c));
    config_init(&c);
    assert_int_equal(c.accel, ACCEL_AUTO);
    assert_true(c.memory == UINT64_C(2) << 30);
    assert_int_equal(c.cpus, 2);
    assert_true(c.memory_max == 0);
    assert_int_equal(c.cpus_max, 0);
    assert_string_equal(c.kernel_params, "");
    assert_string_equal(c.vmm_root, "");
    assert_string_equal(c.guest_dir, "");
    assert_true(c.boot_timeout == 60 * USEC_PER_SEC);
    assert_true(c.rpc_timeout == 60 * USEC_PER_SEC);
    assert_false(c.debug_console);
    assert_int_equal(c.pids_limit, 2048);
    assert_false(c.acl_refuse);
    assert_int_equal(c.log_level, LOG_LEVEL_INFO);
    assert_true(c.guest_console);
    assert_true(c.guest_log_max == 1 << 20);
}

static void every_key_is_read(void **state) {
    (void)state;
    static const char text[] = "# a comment\n"
                               "; another\n"
                               "[vm]\n"
                               "accel = tcg\n"
                               "memory=512M\n"
                               "  cpus\t=  4  \n"
                               "memory_max = 129M\n"
                               "cpus_max = 255\n"
                               "kernel_params = a=1 b,c \"d\"   ; the rest is a comment\n"
                               "vmm_root = /opt/vmm\n"
                               "guest: /opt/guest\n"
                               "boot_timeout = 7\r\n"
                               "\n"
                               "[agent]\n"
                               "timeout = 3600\n"
                               "debug_console = true\n"
                               "[container]\n"
                               "pids_limit = 0\n"
                               "acl = refuse\n"
                               "[log]\n"
                               "level = debug\n"
                               "guest_console = false\n"
                               "guest_log_max = 64K"; /* without a newline at the end */
    struct config c;
    struct err e = ERR_INIT;
    config_init(&c);
    if (config_parse(&c, "t.conf", text, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(c.accel, ACCEL_TCG);
    assert_true(c.memory == 512 << 20);
    assert_int_equal(c.cpus, 4);
    assert_true(c.memory_max == 129 << 20);
    assert_int_equal(c.cpus_max, 255);
    assert_string_equal(c.kernel_params, "a=1 b,c \"d\"");
    assert_string_equal(c.vmm_root, "/opt/vmm");
    assert_string_equal(c.guest_dir, "/opt/guest");
    assert_true(c.boot_timeout == 7 * USEC_PER_SEC);
    assert_true(c.rpc_timeout == 3600 * USEC_PER_SEC);
    assert_true(c.debug_console);
    assert_int_equal(c.pids_limit, 0);
    assert_true(c.acl_refuse);
    assert_int_equal(c.log_level, LOG_LEVEL_DEBUG);
    assert_false(c.guest_console);
    assert_true(c.guest_log_max == 64 << 10);
}

static void mistakes_name_file_line_key_and_what_is_allowed(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[vm]\naccel = qemu\n", "t.conf:2: accel = \"qemu\" in [vm]: must be auto, kvm or tcg"},
        {"[vm]\naccel =\n", "t.conf:2: accel = \"\" in [vm]: must be auto, kvm or tcg"},
        {"[vm]\nmemory = 127M\n", "t.conf:2: memory = \"127M\" in [vm]: must be size, 128M to 1T, a multiple of 2M"},
        {"[vm]\nmemory = 129M\n", "t.conf:2: memory = \"129M\" in [vm]: must be size, 128M to 1T, a multiple of 2M"},
        {"[vm]\nmemory = 1026G\n", "t.conf:2: memory = \"1026G\" in [vm]: must be size, 128M to 1T, a multiple of 2M"},
        {"[vm]\nmemory = -1\n", "t.conf:2: memory = \"-1\" in [vm]: must be size, 128M to 1T, a multiple of 2M"},
        {"[vm]\ncpus = 0\n", "t.conf:2: cpus = \"0\" in [vm]: must be number, 1 to 255"},
        {"[vm]\ncpus = 256\n", "t.conf:2: cpus = \"256\" in [vm]: must be number, 1 to 255"},
        {"[vm]\nmemory_max = 1\n", "t.conf:2: memory_max = \"1\" in [vm]: must be size, 0 or 128M to 1T"},
        {"[vm]\nmemory_max = 127M\n", "t.conf:2: memory_max = \"127M\" in [vm]: must be size, 0 or 128M to 1T"},
        {"[vm]\nmemory_max = 1025G\n", "t.conf:2: memory_max = \"1025G\" in [vm]: must be size, 0 or 128M to 1T"},
        {"[vm]\ncpus_max = 256\n", "t.conf:2: cpus_max = \"256\" in [vm]: must be number, 0 to 255"},
        {"[vm]\ncpus_max =\n", "t.conf:2: cpus_max = \"\" in [vm]: must be number, 0 to 255"},
        {"[vm]\nkernel_params = a\x01z\n", NULL},
        {"[vm]\nkernel_params = \xc3\xa4\n", NULL},
        {"[vm]\nvmm_root = rel/ative\n", "t.conf:2: vmm_root = \"rel/ative\" in [vm]: must be directory, absolute"},
        {"[vm]\nguest = /a/../b\n", "t.conf:2: guest = \"/a/../b\" in [vm]: must be directory, absolute"},
        {"[vm]\nboot_timeout = 0\n", "t.conf:2: boot_timeout = \"0\" in [vm]: must be seconds, 1 to 3600"},
        {"[vm]\nboot_timeout = 3601\n", "t.conf:2: boot_timeout = \"3601\" in [vm]: must be seconds, 1 to 3600"},
        {"[vm]\nboot_timeout = 1s\n", "t.conf:2: boot_timeout = \"1s\" in [vm]: must be seconds, 1 to 3600"},
        {"[agent]\ntimeout = x\n", "t.conf:2: timeout = \"x\" in [agent]: must be seconds, 1 to 3600"},
        {"[agent]\ndebug_console = yes\n", "t.conf:2: debug_console = \"yes\" in [agent]: must be true or false"},
        {"[checkpoint]\nenable = no\n", "t.conf:2: enable = \"no\" in [checkpoint]: must be true or false"},
        {"[container]\npids_limit = -1\n",
         "t.conf:2: pids_limit = \"-1\" in [container]: must be number, 0 to 4194304"},
        {"[checkpoint]\ncriu_log_level = 5\n",
         "t.conf:2: criu_log_level = \"5\" in [checkpoint]: must be number, 0 to 4"},
        {"[checkpoint]\ntimeout = 0\n", "t.conf:2: timeout = \"0\" in [checkpoint]: must be seconds, 1 to 3600"},
        {"[log]\nlevel = loud\n", "t.conf:2: level = \"loud\" in [log]: must be error, warn, info or debug"},
        {"[log]\nguest_console = 1\n", "t.conf:2: guest_console = \"1\" in [log]: must be true or false"},
        {"[log]\nguest_log_max = 63K\n", "t.conf:2: guest_log_max = \"63K\" in [log]: must be size, 64K to 1G"},
        {"[log]\nguest_log_max = 2G\n", "t.conf:2: guest_log_max = \"2G\" in [log]: must be size, 64K to 1G"},
        {"[vm]\n\ncpu = 1\n", "t.conf:3: unknown key \"cpu\" in section [vm]"},
        {"[VM]\ncpus = 1\n", "t.conf:2: unknown section [VM]; there are [vm], [agent], [container], [checkpoint], "
                             "[snapshot], [network] and [log]"},
        {"[log]\ncpus = 1\n", "t.conf:2: unknown key \"cpus\" in section [log]"},
        {"cpus = 1\n", "t.conf:1: \"cpus\" stands before the first section"},
        {"[vm]\ncpus = 1\n# x\ncpus = 1\n", "t.conf:4: cpus is set a second time in [vm], the first was in line 2"},
        {"[vm]\ncpus = 1\n[log]\n[vm]\ncpus = 1\n",
         "t.conf:5: cpus is set a second time in [vm], the first was in line 2"},
        {"[vm]\ncpus\n", "t.conf:2: must be [section], key = value or a comment"},
        {"[vm\ncpus = 1\n", "t.conf:1: must be [section], key = value or a comment"},
        /* the first of two mistakes */
        {"[vm]\ncpus = 0\naccel = x\n", "t.conf:2: cpus = \"0\" in [vm]: must be number, 1 to 255"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct config c, before;
        struct err e = ERR_INIT;
        config_init(&c);
        c.cpus = 77;
        before = c;
        if (config_parse(&c, "t.conf", cases[i].text, &e) != -EINVAL)
            fail_msg("accepted: %s", cases[i].text);
        if (cases[i].message)
            assert_string_equal(e.msg, cases[i].message);
        assert_memory_equal(&c, &before, sizeof(c));
    }
}

static void parse_line(const char *key, size_t len, int r) {
    struct config c;
    struct err e = ERR_INIT;
    config_init(&c);
    cleanup_free char *value = malloc(len + 1);
    memset(value, 'x', len);
    value[0] = '/';
    value[len] = '\0';
    cleanup_free char *text = str_printf("[vm]\n%s = %s\ncpus = 9\n", key, value);
    assert_int_equal(config_parse(&c, "t.conf", text, &e), r);
    if (r == 0)
        assert_int_equal(c.cpus, 9);
    else
        assert_memory_equal(e.msg, "t.conf:2: ", 10);
}

static void long_values_are_whole_or_refused(void **state) {
    (void)state;
    parse_line("kernel_params", 1023, 0);
    parse_line("kernel_params", 1024, -EINVAL);
    parse_line("vmm_root", 1023, 0);
    parse_line("vmm_root", 1024, -EINVAL);
    parse_line("guest", 1024, -EINVAL);
    parse_line("kernel_params", 4070, -EINVAL);
    parse_line("kernel_params", 4090, -EINVAL);
    parse_line("kernel_params", 100000, -EINVAL);

    /* a comment that would have a setting in its second half, if it were cut */
    struct config c;
    config_init(&c);
    cleanup_free char *pad = str_printf("%04095d", 0);
    cleanup_free char *text = str_printf("[vm]\n#%s cpus = 5\n", pad);
    assert_int_equal(config_parse(&c, "t.conf", text, NULL), -EINVAL);
    assert_int_equal(c.cpus, 2);
}

static void load_reads_a_file(void **state) {
    struct tmpdir *t = *state;
    struct config c;
    struct err e = ERR_INIT;
    cleanup_free char *path = tmpdir_path(t, "s.conf");
    tmpdir_write(t, "s.conf", "[vm]\ncpus = 3\n");
    assert_int_equal(config_load(&c, path, &e), 0);
    assert_int_equal(c.cpus, 3);
    tmpdir_write(t, "s.conf", "");
    assert_int_equal(config_load(&c, path, &e), 0);
    assert_int_equal(c.cpus, 2);
    tmpdir_write(t, "s.conf", "[vm]\ncpus = 0\n");
    assert_int_equal(config_load(&c, path, &e), -EINVAL);
    assert_memory_equal(e.msg, path, strlen(path));
}

static void load_refuses_what_is_no_configuration(void **state) {
    struct tmpdir *t = *state;
    struct config c;
    struct err e = ERR_INIT;
    cleanup_free char *path = tmpdir_path(t, "x");
    assert_int_equal(config_load(&c, path, &e), -ENOENT);
    assert_int_equal(config_load(&c, t->path, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "not a regular file"));
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(config_load(&c, path, &e), -EINVAL); /* at once: nobody will ever write to it */
    assert_int_equal(unlink(path), 0);

    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "[vm]\n\0cpus = 1\n", 15), 15);
    assert_int_equal(config_load(&c, path, &e), -EINVAL);
    assert_non_null(strstr(e.msg, "NUL"));
    assert_int_equal(ftruncate(fd, (off_t)CONFIG_FILE_MAX + 1), 0);
    assert_int_equal(config_load(&c, path, &e), -EFBIG);
}

/* No two rows for one key, and nothing empty but defaults. */
static void the_table_is_complete(void **state) {
    (void)state;
    size_t n;
    const struct config_key *k = config_keys(&n);
    assert_true(n > 10);
    for (size_t i = 0; i < n; i++) {
        assert_true(k[i].section[0] && k[i].key[0] && k[i].type[0] && k[i].help[0]);
        assert_non_null(k[i].default_text);
        for (size_t j = 0; j < i; j++)
            assert_false(strcmp(k[i].section, k[j].section) == 0 && strcmp(k[i].key, k[j].key) == 0);
        /* each default is a value that the file may have */
        struct config c, expected;
        struct err e = ERR_INIT;
        config_init(&c);
        config_init(&expected);
        cleanup_free char *text = str_printf("[%s]\n%s = %s\n", k[i].section, k[i].key, k[i].default_text);
        if (config_parse(&c, "t.conf", text, &e) < 0)
            fail_msg("%s", e.msg);
        assert_memory_equal(&c, &expected, sizeof(c));
    }
}

#define T(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(mistakes_name_file_line_key_and_what_is_allowed),
        cmocka_unit_test(long_values_are_whole_or_refused),
        T(load_reads_a_file),
        T(load_refuses_what_is_no_configuration),
        cmocka_unit_test(the_table_is_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
