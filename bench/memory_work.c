/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bench/checkpoint checkpoints: holds memory that does not compress, writes to a part of it over and over, and
 * says every few milliseconds that it runs. Usage: memory_work MIB PERCENT-THAT-IS-WRITTEN-TO
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define PAUSE_NSEC 10000000

/* xorshift64*: as good as random for a compressor. */
static uint64_t next_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

int main(int argc, char **argv) {
    size_t size = (argc > 1 ? strtoul(argv[1], NULL, 10) : 256) << 20;
    size_t written = size / 100 * (argc > 2 ? strtoul(argv[2], NULL, 10) : 5);
    const struct timespec pause_time = {.tv_nsec = PAUSE_NSEC};
    uint64_t state = 88172645463325252U;
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 1;
    for (size_t i = 0; i < size; i += sizeof(uint64_t))
        *(uint64_t *)(void *)(memory + i) = next_random(&state);
    for (;;) {
        for (size_t i = 0; i < written; i += PAGE)
            *(volatile uint64_t *)(void *)(memory + i) = next_random(&state);
        if (write(STDOUT_FILENO, "running\n", 8) < 0)
            return 1;
        nanosleep(&pause_time, NULL);
    }
}
