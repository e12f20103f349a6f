/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What containerd and a shim's program say to each other before there is a connection: the socket's address, what
 * `start` reads and prints, what `-info` prints.
 *
 * Spec: containerd's core/runtime/v2 (README.md, api/bootstrap, api/types/introspection.proto).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

#include "base/err.h"

#define BOOTSTRAP_INPUT_MAX ((size_t)1 << 20) /* bytes of stdin */
#define BOOTSTRAP_SOCKET_DIR "/run/containerd/s"
#define BOOTSTRAP_ADDRESS_MAX                                                                                          \
    (sizeof("unix://") - 1 + sizeof(((struct sockaddr_un *)0)->sun_path)) /* bytes with the NUL */
#define BOOTSTRAP_TASK_VERSION_MAX 3

/* What `start` goes by: flags and environment, and over them what stdin says. */
struct bootstrap {
    char *namespace, *grpc_address, *ttrpc_address, *publish_binary, *socket_dir; /* owned */
    unsigned version; /* of the Task service that containerd wants: 2 or 3 */
};

void bootstrap_clear(struct bootstrap *b);
#define cleanup_bootstrap CLEANUP(bootstrap_clear)

/* Lays stdin over b. It is empty, the Any with the runtime's options (containerd ≤ 2.2, which are asked for again with
 * Create, so that it is ignored here), or BootstrapParams, told by their instance_id being `id`. -ENOMEM. */
int bootstrap_apply(struct bootstrap *b, const char *id, const uint8_t *input, size_t len, struct err *err);

/* "unix://DIR/<SHA-256 of grpc address, namespace and id>", as containerd's own shims name it: the same for every
 * container of a pod. -EINVAL when DIR is too long for a socket's address. */
int bootstrap_address(const struct bootstrap *b, const char *id, char ret[BOOTSTRAP_ADDRESS_MAX], struct err *err);

/* malloc'd: what `start` prints, a bare address or JSON by the version. NULL: out of memory. */
char *bootstrap_answer(const struct bootstrap *b, const char *address);

/* malloc'd: "io.containerd.kata.v2" for a program called "containerd-shim-kata-v2"; any other name gives
 * "io.containerd.stasis.v2". NULL: out of memory. */
char *bootstrap_runtime_name(const char *program);

/* malloc'd: RuntimeInfo, encoded. */
int bootstrap_info(const char *program, uint8_t **ret, size_t *ret_len, struct err *err);
