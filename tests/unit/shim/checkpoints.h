/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints of "c1" through the Task service: the guest's side writes files, as CRIU would, into what the host has
 * mounted into the share for it. */
#pragma once

#include "task_calls.h"

#include "proto/options.pb-c.h"

#define TYPE_OURS "stasis.sandbox.v1.CheckpointOptions"
#define TYPE_RUNC "containerd.runc.v1.CheckpointOptions"

typedef Containerd__Task__V2__CheckpointTaskRequest CheckpointRequest;
typedef Containerd__Runc__V1__CheckpointOptions RuncOptions;
typedef Stasis__Sandbox__V1__CheckpointOptions OurOptions;

/* The guest: where it writes, and what it does wrong. */
static struct {
    const char *share;
    bool hostile; /* leaves a symbolic link among the images */
} guest;

static inline void guest_writes(const char *dir, const char *name, const char *data) {
    cleanup_free char *path = str_printf("%s/c1/checkpoint/%s/%s", guest.share, dir, name);
    struct err err = ERR_INIT;
    if (file_write_atomic(path, data, strlen(data), 0644, false, &err) < 0)
        fail_msg("%s", err.msg);
}

static inline void guest_dumps(const Stasis__Agent__V1__CheckpointRequest *req) {
    cleanup_free char *link = str_printf("%s/c1/checkpoint/%s/core-1.img", guest.share, req->image_dir);
    guest_writes(req->image_dir, "inventory.img", "inventory");
    guest_writes(req->image_dir, "pages-1.img", "pages");
    guest_writes(req->work_dir, "dump.log", "(00.1) Error (criu/x.c:1): no\n(00.2) Dumping\n");
    guest_writes(req->work_dir, "stats-dump", "stats");
    if (guest.hostile)
        assert_int_equal(symlink("/etc/passwd", link), 0);
}

/* c1 runs, and its guest can dump it. */
static inline void create_dumpable(struct daemon *d) {
    create(d);
    must(d, "Start", "");
    memset(&guest, 0, sizeof(guest));
    guest.share = sandbox_share(d->s.sb)->dir;
    the_agent()->on_dump = guest_dumps;
    *the_agent()->trace = '\0';
}

/* Path below the test's directory, valid until the test ends. */
static inline char *in_dir(const struct daemon *d, const char *name) {
    static char paths[8][256];
    static size_t next;
    char *path = paths[next++ % ARRAY_SIZE(paths)];
    snprintf(path, sizeof(paths[0]), "%s/%s", d->dir->path, name);
    return path;
}

static inline CheckpointRequest checkpoint_request(const struct daemon *d) {
    CheckpointRequest req = CONTAINERD__TASK__V2__CHECKPOINT_TASK_REQUEST__INIT;
    req.id = text("c1");
    req.path = in_dir(d, "ck");
    return req;
}

/* A request with options, packed into a buffer that the next one uses again. */
static inline CheckpointRequest checkpoint_with(const struct daemon *d, const char *type, const void *options) {
    static uint8_t buf[1024];
    static any_t any;
    CheckpointRequest req = checkpoint_request(d);
    any = (any_t)CONTAINERD__TASK__V2__ANY__INIT;
    any.type_url = text(type);
    any.value.data = buf;
    assert_true(protobuf_c_message_get_packed_size(options) <= sizeof(buf));
    any.value.len = protobuf_c_message_pack(options, buf);
    req.options = &any;
    return req;
}

static inline bool is_there(const struct daemon *d, const char *name) {
    return faccessat(d->dir->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static inline void assert_file(const struct daemon *d, const char *name, const char *want) {
    cleanup_free char *got = NULL;
    struct err err = ERR_INIT;
    if (file_read_at(d->dir->fd, name, 4096, &got, NULL, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(got, want);
}

/* What a checkpoint or restore that is over may not leave: hidden directories of its own, and mounts beside the
 * container's root. */
static inline void assert_clean(const struct daemon *d) {
    cleanup_dir DIR *top = opendir(d->dir->path);
    cleanup_free char *box = tmpdir_path(d->dir, "box");
    cleanup_free char *mounted = path_join(sandbox_share(d->s.sb)->dir, "c1/checkpoint");
    cleanup_dir DIR *own = opendir(box);
    cleanup_dir DIR *share = opendir(mounted); /* stays, empty; NULL: there was none */
    DIR *dirs[] = {top, own};
    for (const struct dirent *e; share && (e = readdir(share));)
        if (e->d_name[0] != '.')
            fail_msg("%s is left in the share", e->d_name);
    for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
        for (const struct dirent *e; (e = readdir(dirs[i]));)
            if (e->d_name[0] == '.' && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
                fail_msg("%s is left", e->d_name);
    assert_true(count_mounts(sandbox_share(d->s.sb)->dir) <= 2);
}
