/* SPDX-License-Identifier: Apache-2.0 */
/* A fork bomb: every process makes others for as long as it lives, and never ends by itself. */
#include <time.h>
#include <unistd.h>

int main(void) {
    /* What made the container is done by then. */
    (void)nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    for (;;)
        (void)fork();
}
