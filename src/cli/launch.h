/* SPDX-License-Identifier: Apache-2.0 */
/* What `run` and `create` share: a sandbox of its own for one container, made from a bundle. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"
#include "proto/agent.pb-c.h"

/* What the container is to be made of, instead of started anew. */
struct launch_restore {
    const char *images, *work; /* directories, absolute; work "": the daemon's choice */
    const Stasis__Agent__V1__CriuOptions *criu;
    bool print_stats;                   /* of CRIU, from `work` */
    const struct launch_import *import; /* NULL: the images are there, and the root is as it has to be */
};

/* For images and a root that have to be prepared first, in the order of the calls. Where one fails all that was made is
 * removed again. */
struct launch_import {
    /* The bundle is checked (it and its root, `rootfs`, are absolute) and the id is ours; nothing runs yet. */
    int (*prepare)(void *userdata, const char *bundle, const char *rootfs, struct err *err);
    /* The container is created, and will be started. */
    int (*apply)(void *userdata, struct err *err);
    void (*keep)(void *userdata);                 /* it runs */
    int (*undo)(void *userdata, struct err *err); /* instead: it does not run, and nothing of it is left */
    void *userdata;
};

struct launch_options {
    const struct launch_restore *restore; /* NULL: none */
    const char *bundle, *console_socket, *pid_file;
    uint64_t preserve_fds;
    bool no_pivot, no_new_keyring;
    bool start; /* run */
    bool detach, keep, no_subreaper;
};

/* Rows of both tables. */
#define LAUNCH_OPTION(kind, field, name, letter, help) OPTION(kind, struct launch_options, field, name, letter, help)
#define LAUNCH_OPTION_BUNDLE                                                                                           \
    LAUNCH_OPTION(OPTION_TEXT, bundle, "bundle", 'b',                                                                  \
                  "path to the root of the bundle directory, defaults to the current directory")
#define LAUNCH_OPTION_CONSOLE_SOCKET                                                                                   \
    LAUNCH_OPTION(OPTION_TEXT, console_socket, "console-socket", 0,                                                    \
                  "path to an AF_UNIX socket which will receive a file descriptor referencing the master end of the "  \
                  "console's pseudoterminal")
#define LAUNCH_OPTION_PID_FILE                                                                                         \
    LAUNCH_OPTION(OPTION_TEXT, pid_file, "pid-file", 0, "specify the file to write the process id to")
#define LAUNCH_OPTION_NO_PIVOT                                                                                         \
    LAUNCH_OPTION(OPTION_FLAG, no_pivot, "no-pivot", 0, "accepted and ignored: the guest's root is not a ramdisk")
#define LAUNCH_OPTION_NO_NEW_KEYRING                                                                                   \
    LAUNCH_OPTION(OPTION_FLAG, no_new_keyring, "no-new-keyring", 0,                                                    \
                  "accepted and ignored: the caller's session keyring does not reach into the guest")
#define LAUNCH_OPTION_PRESERVE_FDS                                                                                     \
    LAUNCH_OPTION(OPTION_UINT, preserve_fds, "preserve-fds", 0,                                                        \
                  "refused unless 0: open files cannot be passed into a virtual machine")
#define LAUNCH_DESCRIPTION                                                                                             \
    "The bundle is a directory with a specification file named \"config.json\" and a\n"                                \
    "root filesystem. The container runs in a virtual machine of its own.\n\n"                                         \
    "Where \"<container-id>\" is your name for the instance of the container that you\n"                               \
    "are starting. The name you provide for the container instance must be unique on\nyour host."

/* Returns the exit code: 0, or of a container that ran in the foreground its own. On failure nothing is left. */
int launch(struct cli *cli, const struct launch_options *options, const char *id, struct err *err);

/* Refuses --preserve-fds and tells of what is ignored. Also for exec. */
int launch_refuse_fds(uint64_t preserve_fds, struct err *err);

/* Writes a pid as runc does: no newline, in one piece. */
int launch_write_pid(const char *path, pid_t pid, struct err *err);
