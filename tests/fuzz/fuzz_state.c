/* SPDX-License-Identifier: Apache-2.0 */
/* state.json, which another release or a full disk may have left. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "oci/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/dev/shm/stasis-fuzz-XXXXXX"; /* memory is faster */

static void remove_dir(void) {
    char file[64];
    snprintf(file, sizeof(file), "%s/state.json", dir);
    (void)unlink(file);
    (void)rmdir(dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool made;
    char file[64];
    if (!made && (!mkdtemp(dir) || atexit(remove_dir) != 0))
        abort();
    made = true;
    snprintf(file, sizeof(file), "%s/state.json", dir);
    cleanup_fd int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fd_write_all(fd, data, size) < 0)
        abort();
    cleanup_sandbox_state struct oci_sandbox_state s = {0};
    if (oci_sandbox_state_load(dir, &s, NULL) < 0)
        return 0;
    for (size_t i = 0; i < s.n_containers; i++) {
        cleanup_json json_t *doc = oci_container_state_json(&s.containers[i]);
        if (!doc)
            abort();
    }
    return 0;
}
