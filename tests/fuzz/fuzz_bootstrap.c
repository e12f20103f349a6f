/* SPDX-License-Identifier: Apache-2.0 */
/* What containerd says to the shim's `start` on stdin. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "shim/bootstrap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cleanup_bootstrap struct bootstrap b = {.namespace = strdup("default"),
                                            .grpc_address = strdup("/run/containerd/containerd.sock"),
                                            .socket_dir = strdup(BOOTSTRAP_SOCKET_DIR),
                                            .version = 2};
    char address[BOOTSTRAP_ADDRESS_MAX];
    if (bootstrap_apply(&b, "task", data, size, NULL) < 0)
        return 0;
    if (b.version < 2 || b.version > BOOTSTRAP_TASK_VERSION_MAX)
        abort();
    if (bootstrap_address(&b, "task", address, NULL) < 0)
        return 0;
    cleanup_free char *answer = bootstrap_answer(&b, address);
    if (!answer || !strstr(answer, "unix://"))
        abort();
    return 0;
}
