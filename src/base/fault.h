/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults for tests: named points where a test can have a step fail, kill its process or hold it.
 *
 * Theory of operation. Only a build with -Dfaults=true has them; in any other FAULT() is false and nothing of the names
 * is left. A point is where a call can fail: `if (FAULT(COMMIT_SYNC) || fsync(fd) < 0)` takes the path that the failed
 * call would take, with its errno. What happens is in a file with lines "POINT ACTION", read anew at each point, so
 * that one container serves many tests. The file is named by the environment variable FAULT_FILE_ENV; the agent takes
 * it from the kernel's command line, agent.fault=FILE, and the file has to be below the share. It is rewritten in
 * place.
 *
 * Actions: the name of an error (ENOSPC), with which the step fails; `kill`, the process is killed there (the agent's
 * end is the guest's panic); `hold`, it stands still as long as the file says so. At every point that does something
 * FILE.hit is written first, with the point's name and the pid.
 */
#pragma once

#include <stdbool.h>

#define FAULT_FILE_ENV "STASIS_FAULT"

/* All of them: identifier and name. A test walks this table. */
#define FAULT_POINTS(POINT)                                                                                            \
    /* what is written into the state directory, by the CLI, the shim's start and the daemon */                        \
    POINT(DIR_MAKE, "dir.make")           /* the sandbox's directory */                                                \
    POINT(DIR_SOCKET, "dir.socket")       /* its socket, or the link to it */                                          \
    POINT(DIR_LOG, "dir.log")             /* the daemon's log */                                                       \
    POINT(DIR_SHARE, "dir.share")         /* where the share is mounted */                                             \
    POINT(DIR_BUNDLE, "dir.bundle")       /* the bundle of a snapshot's copy */                                        \
    POINT(STATE_SAVE, "state.save")       /* state.json */                                                             \
    POINT(ARCHIVE_WRITE, "archive.write") /* an archive, by a process of the CLI */                                    \
    POINT(COLLECT_DIR, "collect.dir")     /* the directory for CRIU's logs */                                          \
    /* the daemon, in the order of a checkpoint */                                                                     \
    POINT(IMAGES_MAKE, "images.make")             /* the hidden directory beside the final one */                      \
    POINT(IMAGES_DIRS, "images.dirs")             /* images/ and work/ in it */                                        \
    POINT(SHARE_BIND, "share.bind")               /* the first mount for the guest */                                  \
    POINT(SHARE_WORK, "share.work")               /* the second one */                                                 \
    POINT(CHECKPOINT_CALL, "checkpoint.call")     /* the call to the agent */                                          \
    POINT(CHECKPOINT_DUMPED, "checkpoint.dumped") /* its answer is there */                                            \
    POINT(WORKER_START, "worker.start")           /* the process for the commit, or for the logs */                    \
    POINT(COMMIT_READY, "commit.ready")           /* the directory that the guest never saw */                         \
    POINT(COMMIT_MOVE, "commit.move")             /* a file goes there */                                              \
    POINT(COMMIT_SYNC, "commit.sync")             /* and is made durable */                                            \
    POINT(COMMIT_SYNC_DIR, "commit.sync-dir")     /* so is the directory */                                            \
    POINT(COMMIT_RENAME, "commit.rename")         /* which gets the final name */                                      \
    POINT(COMMIT_SYNC_NAME, "commit.sync-name")   /* which is made durable */                                          \
    POINT(COLLECT_LOG, "collect.log")             /* a log is copied for the user */                                   \
    POINT(CHECKPOINT_EXIT, "checkpoint.exit")     /* the kill afterwards; fails: it is lost, and waited for 1 s */     \
    /* the daemon, when it shows a container's files in its monitor */                                                 \
    POINT(VIEW_COPY, "view.copy") /* its mounts are copied out of the share */                                         \
    /* the daemon, in a restore (besides the above) */                                                                 \
    POINT(RESTORE_CALL, "restore.call")   /* the call to the agent */                                                  \
    POINT(RESTORE_WATCH, "restore.watch") /* the processes run, and are to be watched */                               \
    /* the daemon, in a snapshot, of a sandbox or as a template */                                                     \
    POINT(SNAPSHOT_BEGIN, "snapshot.begin")         /* the hidden directory in the store */                            \
    POINT(SNAPSHOT_FREEZE, "snapshot.freeze")       /* the call to the agent */                                        \
    POINT(SNAPSHOT_FROZEN, "snapshot.frozen")       /* its answer is there */                                          \
    POINT(SNAPSHOT_SAVED, "snapshot.saved")         /* the CPUs stand, the device state is in its file */              \
    POINT(SNAPSHOT_COPY, "snapshot.copy")           /* memory and roots, in a process of its own */                    \
    POINT(SNAPSHOT_COPIED, "snapshot.copied")       /* that has ended well */                                          \
    POINT(SNAPSHOT_MANIFEST, "snapshot.manifest")   /* is written, in another process */                               \
    POINT(SNAPSHOT_SYNC, "snapshot.sync")           /* all of it is made durable */                                    \
    POINT(SNAPSHOT_RENAME, "snapshot.rename")       /* gets the final name */                                          \
    POINT(SNAPSHOT_SYNC_NAME, "snapshot.sync-name") /* which is made durable */                                        \
    POINT(SNAPSHOT_COMMITTED, "snapshot.committed") /* and there it is */                                              \
    POINT(TEMPLATE_LOCK, "template.lock")           /* one maker at a time */                                          \
    /* the daemon, when a snapshot or a template is loaded */                                                          \
    POINT(LOAD_ROOT, "load.root")     /* the overlay of a container's root */                                          \
    POINT(LOAD_FILL, "load.fill")     /* the memory, in a process of its own */                                        \
    POINT(LOAD_FILLED, "load.filled") /* that has ended well */                                                        \
    POINT(LOAD_LOADED, "load.loaded") /* the devices have their state */                                               \
    POINT(LOAD_THAW, "load.thaw")     /* the call to the agent */                                                      \
    /* the agent */                                                                                                    \
    POINT(AGENT_FREEZE, "agent.freeze")     /* the freezer, before the dump */                                         \
    POINT(AGENT_PROBE, "agent.probe")       /* the host's directories, tried with a file */                            \
    POINT(AGENT_WORK, "agent.work")         /* CRIU's own directory */                                                 \
    POINT(AGENT_NETWORK, "agent.network")   /* a container's network namespace is made, first */                       \
    POINT(AGENT_POINTS, "agent.points")     /* mount points that a restored container lacks are made */                \
    POINT(AGENT_CRUN, "agent.crun")         /* crun is started */                                                      \
    POINT(AGENT_DUMPED, "agent.dumped")     /* it has ended well */                                                    \
    POINT(AGENT_COLLECT, "agent.collect")   /* CRIU's logs go to the host */                                           \
    POINT(AGENT_REPORT, "agent.report")     /* so does the account of the attempt */                                   \
    POINT(AGENT_RESUME, "agent.resume")     /* the freezer, after a dump that failed */                                \
    POINT(AGENT_RESTORED, "agent.restored") /* crun has restored it */                                                 \
    POINT(AGENT_ADOPT, "agent.adopt")       /* and the agent takes it over */

#ifdef STASIS_FAULTS

#define FAULT_POINT_ID(id, name) FAULT_##id,
enum fault_point { FAULT_POINTS(FAULT_POINT_ID) FAULT_COUNT };

/* True when the step has to fail, with errno set. The environment variable is looked at each time. */
bool fault_hit(enum fault_point point);

/* A word of the kernel's command line: agent.fault=FILE is the file, from here on. */
void fault_cmdline(const char *word);

#define FAULT(id) fault_hit(FAULT_##id)
#define FAULT_CMDLINE(word) fault_cmdline(word)

#else

#define FAULT(id) false
#define FAULT_CMDLINE(word) ((void)(word))

#endif
