/* SPDX-License-Identifier: Apache-2.0 */
/* PID 1 of the bare boot that bench/boot compares with: says that it runs, and powers off. */
#include <sys/reboot.h>
#include <unistd.h>

int main(void) {
    static const char text[] = "bare-init-ready\n";
    if (write(1, text, sizeof(text) - 1) < 0)
        return 1;
    reboot(RB_POWER_OFF);
    pause();
    return 0;
}
