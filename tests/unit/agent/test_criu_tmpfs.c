/* SPDX-License-Identifier: Apache-2.0 */
/* Needs root, for devices and owners. tar itself reads what is written here, and the other way round. */
#include "agent/criu_tmpfs.h"
#include "support.h"

static void run(const char *command, const struct tmpdir *t) {
    cleanup_free char *line = str_printf("cd %s && { %s\n}", t->path, command);
    if (system(line) != 0)
        fail_msg("%s", line);
}

/* Like the /dev that crun makes. */
static const char make_dev[] =
    "mkdir dev dev/pts dev/shm && chmod 1777 dev/shm && mknod -m 666 dev/null c 1 3 && mknod -m 666 dev/tty c 5 0 && "
    "mknod -m 640 dev/loop b 7 1 && chown 5:6 dev/tty && ln -s /proc/self/fd dev/fd && ln -s ../x/y dev/shm/dangling "
    "&& "
    "mkfifo -m 600 dev/pts/fifo && : >dev/shm/empty && chmod 4711 dev/shm/empty && "
    "find dev -depth | xargs touch -h -d @1000000000";
/* Of a tree: all that an archive keeps. */
static const char describe[] = "find . -printf '%P %y %m %U %G %T@ %l ' -exec stat -c '%t,%T' {} \\; | sort";

static int save(const struct tmpdir *t, const char *tree, const char *archive) {
    cleanup_fd int dir = openat(t->fd, tree, O_RDONLY | O_DIRECTORY);
    cleanup_fd int out = openat(t->fd, archive, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_true(dir >= 0 && out >= 0);
    return criu_tmpfs_save(dir, out);
}

static int load(const struct tmpdir *t, const char *archive, const char *to) {
    cleanup_free char *path = str_printf("%s/%s", t->path, to);
    cleanup_fd int in = openat(t->fd, archive, O_RDONLY);
    assert_true(in >= 0);
    int r = criu_tmpfs_load(in, path);
    assert_int_equal(lseek(in, 0, SEEK_CUR), 0);
    return r;
}

static void same(const struct tmpdir *t, const char *a, const char *b) {
    cleanup_free char *line =
        str_printf("(cd %s && %s) >a.txt; (cd %s && %s) >b.txt; diff a.txt b.txt", a, describe, b, describe);
    run(line, t);
}

static void tar_reads_what_is_saved(void **state) {
    struct tmpdir *t = *state;
    run(make_dev, t);
    assert_int_equal(save(t, "dev", "a.tar.gz"), 1);
    run("mkdir out && tar --extract --gzip --no-unquote --no-wildcards --directory out <a.tar.gz", t);
    same(t, "dev", "out");
}

static void what_is_saved_is_loaded(void **state) {
    struct tmpdir *t = *state;
    run(make_dev, t);
    /* A directory and a device are there already. */
    run("mkdir -p out/pts && mknod out/null c 9 9 && ln -s /nowhere out/tty", t);
    assert_int_equal(save(t, "dev", "a.tar.gz"), 1);
    assert_int_equal(load(t, "a.tar.gz", "out"), 1);
    same(t, "dev", "out");
    /* An empty one, as a masked directory is. */
    run("mkdir empty out2 && chmod 555 empty && chown 7:8 empty && touch -d @1000000000 empty", t);
    assert_int_equal(save(t, "empty", "b.tar.gz"), 1);
    assert_int_equal(load(t, "b.tar.gz", "out2"), 1);
    same(t, "empty", "out2");
}

/* Nothing is written, so that tar can begin. */
static void left_to_tar(struct tmpdir *t, const char *change) {
    struct stat st;
    run("rm -rf d; mkdir d d/sub; : >d/empty", t);
    assert_int_equal(save(t, "d", "c.tar.gz"), 1);
    run(change, t);
    assert_int_equal(save(t, "d", "c.tar.gz"), 0);
    assert_int_equal(fstatat(t->fd, "c.tar.gz", &st, 0), 0);
    assert_int_equal(st.st_size, 0);
}

static void what_is_not_plain_is_left_to_tar(void **state) {
    struct tmpdir *t = *state;
    static const char *const changes[] = {
        "echo x >d/sub/data",
        "truncate -s 1M d/sub/hole",
        "ln d/empty d/link",
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"d/sub/socket\")'",
        ": >d/$(printf %0120d 0)",
        "ln -s $(printf %0100d 0) d/sub/long",
        "chown 3000000 d/empty",
        "touch -d @-5 d/sub",
        "mkdir -p d/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18",
        "for i in $(seq 260); do : >d/$i; done",
    };
    for (size_t i = 0; i < ARRAY_SIZE(changes); i++)
        left_to_tar(t, changes[i]);
}

static void archives_of_tar_are_left_to_it(void **state) {
    struct tmpdir *t = *state;
    run(make_dev, t);
    run("mkdir out; tar --create --gzip --numeric-owner --directory dev . >a.tar.gz; : >b.tar.gz; head -c 300 "
        "/dev/zero "
        ">c.tar.gz; head -c 1M /dev/zero >d.tar.gz",
        t);
    static const char *const archives[] = {"a.tar.gz", "b.tar.gz", "c.tar.gz", "d.tar.gz"};
    for (size_t i = 0; i < ARRAY_SIZE(archives); i++)
        assert_int_equal(load(t, archives[i], "out"), 0);
    run("[ -z \"$(ls -A out)\" ]", t);
}

/* Python writes whatever names it is told. */
static void hostile(struct tmpdir *t, const char *entries, int expected) {
    cleanup_free char *script =
        str_printf("rm -rf out outside; mkdir out outside; python3 - <<'E'\n"
                   "import io, tarfile, zlib, struct\n"
                   "b = io.BytesIO()\n"
                   "t = tarfile.open(fileobj=b, mode='w', format=tarfile.USTAR_FORMAT)\n"
                   "def add(name, type, link=''):\n"
                   "    i = tarfile.TarInfo(name); i.type = type; i.linkname = link; i.mode = 0o755; t.addfile(i)\n"
                   "D, F, L, H = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE\n"
                   "%s\n"
                   "t.close()\n"
                   "d = b.getvalue()\n"
                   "open('h.tar.gz', 'wb').write(bytes([31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 1]) +\n"
                   "    struct.pack('<HH', len(d), len(d) ^ 0xffff) + d + struct.pack('<II', zlib.crc32(d), len(d)))\n"
                   "E",
                   entries);
    run(script, t);
    assert_int_equal(load(t, "h.tar.gz", "out"), expected);
    run("[ -z \"$(ls -A outside)\" ]", t);
}

static void nothing_is_made_outside(void **state) {
    struct tmpdir *t = *state;
    hostile(t, "add('./a', D); add('./a/f', F)", 1);
    run("[ -f out/a/f ]", t);
    hostile(t, "add('./../outside/f', F)", 0);
    hostile(t, "add('./a/../../outside/f', F)", 0);
    hostile(t, "add('/tmp/stasis-hostile', F)", 0);
    hostile(t, "add('outside', F)", 0);
    hostile(t, "add('./a', H, '../outside/f')", 0);
    hostile(t, "add('./a', L, '')", 0);
    hostile(t, "add('./a//f', F)", 0);
    hostile(t, "add('./a', F); add('.//f', F)", 0);
    hostile(t, "add('.//d/f', F)", 0);
    /* By way of a link that the archive itself has made. */
    hostile(t, "add('./a', L, '../outside'); add('./a/f', F)", -ELOOP);
    hostile(t, "add('./a', L, '../outside'); add('./a', D)", -EEXIST);
    hostile(t, "add('./a', F); add('./a/f', F)", -ENOTDIR);
}

static void damage_is_seen(void **state) {
    struct tmpdir *t = *state;
    run(make_dev, t);
    assert_int_equal(save(t, "dev", "a.tar.gz"), 1);
    run("mkdir out; size=$(stat -c %s a.tar.gz); for at in 0 3 11 14 15 120 160 300 1100 $((size - 1)) $((size - 7)); "
        "do "
        "cp a.tar.gz a.$at; printf '\\377' | dd of=a.$at bs=1 seek=$at conv=notrunc status=none; done; "
        "head -c $((size - 1)) a.tar.gz >a.short; { cat a.tar.gz; echo; } >a.long",
        t);
    static const char *const damaged[] = {"a.0",   "a.3",   "a.11",   "a.14",    "a.15",  "a.120",
                                          "a.160", "a.300", "a.1100", "a.short", "a.long"};
    for (size_t i = 0; i < ARRAY_SIZE(damaged); i++)
        assert_int_equal(load(t, damaged[i], "out"), 0);
    run("[ -z \"$(ls -A out)\" ]", t);
}

static void errors_are_told(void **state) {
    struct tmpdir *t = *state;
    run("mkdir d", t);
    cleanup_fd int dir = openat(t->fd, "d", O_RDONLY | O_DIRECTORY);
    cleanup_fd int full = open("/dev/full", O_WRONLY);
    assert_int_equal(criu_tmpfs_save(dir, full), -ENOSPC);
    assert_int_equal(save(t, "d", "a.tar.gz"), 1);
    assert_int_equal(load(t, "a.tar.gz", "nowhere"), -ENOENT);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, tmpdir_setup, tmpdir_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(tar_reads_what_is_saved),
        T(what_is_saved_is_loaded),
        T(what_is_not_plain_is_left_to_tar),
        T(archives_of_tar_are_left_to_it),
        T(nothing_is_made_outside),
        T(damage_is_seen),
        T(errors_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
