/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's memory as a file: sparse, of the guest's size, with only the pages that are not zero.
 *
 * Theory of operation. The memory is cut into segments of MEMORY_SEGMENT bytes. Worker processes take one segment after
 * the other from a shared counter, so that all CPUs copy; holes (SEEK_DATA) and pages that are all zero are skipped.
 * Each segment has a digest of its contents with the zeros that were skipped left out: for each run of pages that holds
 * data, its offset and length (in bytes within the segment, little-endian u64 each) and its bytes; a run ends at a zero
 * page and at every multiple of MEMORY_CHUNK. A segment without data has no digest. So the same memory has the same
 * digests, however it is laid out in the file, and both saving and loading read each byte once: what is hashed is what
 * is written, whoever changes the source meanwhile.
 *
 * The digest is XXH3 of 128 bits, in its canonical form. It is there to find damage, and finds it at the speed of
 * memory; a SHA-256 takes more time than all the rest of the copy, and whoever can write the image can write its
 * digests too (docs/security.md).
 *
 * A guest that is itself a copy of an image has most of its pages still: those that are the same at the same place are
 * left out of the file, and a bit says so. The other image's file is the base, and has no base itself. Digests are of
 * the memory, wherever its pages come from, so that a base that was exchanged or damaged is found out like any other
 * damage.
 *
 * Bytes go through a buffer of one chunk, which stays in the CPU's cache (pread, hash, pwrite). Mapping the source is
 * no faster (bench/memory_image.c), and a disk's error would be a SIGBUS instead of an error. The kernel lets one
 * process at a time write to a file; the others would spin for their turn, and sleep instead. Into a memfd there is a
 * way beside that, for all at once: each process registers its mapping with userfaultfd(2), and UFFDIO_COPY puts a
 * buffer where no page is yet. Where that is not to be had, or a page is there already, it is written.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "base/util.h"

#define MEMORY_PAGE ((uint64_t)4096)
#define MEMORY_CHUNK ((uint64_t)256 << 10)
#define MEMORY_SEGMENT ((uint64_t)16 << 20)
#define MEMORY_DIGEST_SIZE 16
#define MEMORY_SEGMENT_CHUNKS (MEMORY_SEGMENT / MEMORY_CHUNK)
#define MEMORY_SEGMENTS_MAX 65536 /* 1 TiB */
#define MEMORY_PROCESSES_MAX 64   /* more than that are not started */

struct memory_segment {
    uint64_t data; /* bytes that are not skipped; 0: none, and no digest */
    uint8_t digest[MEMORY_DIGEST_SIZE];
};

struct memory_image {
    uint64_t size; /* of the guest's memory, bytes */
    uint32_t n;    /* segments: size / MEMORY_SEGMENT, rounded up */
    struct memory_segment *segments;
    uint64_t *base; /* for each MEMORY_CHUNK a bit for each of its pages, from the lowest: it is that of the base */
};

/* Makes one with room for all segments in memory that is shared with children (a worker's results come back), zeroed.
 * Errors: -EINVAL (size 0, not a multiple of MEMORY_PAGE, too large), -ENOMEM. */
int memory_image_new(uint64_t size, struct memory_image **ret, struct err *err);
struct memory_image *memory_image_free(struct memory_image *m); /* accepts NULL; returns NULL */
DEFINE_CLEANUP(struct memory_image *, memory_image_free);
#define cleanup_memory_image CLEANUP(memory_image_freep)

/* How many chunks segment i has, that is, words of base from i * MEMORY_SEGMENT_CHUNKS on. */
size_t memory_image_chunks(const struct memory_image *m, uint32_t i);

uint64_t memory_image_data(const struct memory_image *m);   /* sum, bytes */
uint64_t memory_image_shared(const struct memory_image *m); /* how much of it is in the base; 0: there is none */

/* Copies memory_fd (m->size bytes) to file_fd (empty, seekable, readable and writable), which gets that size, with
 * `processes` processes (0 and 1: in this one), and fills in the segments. What is the same in base_fd (-1: none), an
 * image's file of that size, is left out. Blocks: for a worker (sandbox/worker.h) or a
 * program; its processes die with this one. file_fd is not synced. Errors: -EINVAL (the sizes do not fit), of read and
 * write (-ENOSPC, -EIO, …) with the offset; what is in file_fd and m is then of no use. */
int memory_image_save(int memory_fd, int file_fd, int base_fd, unsigned processes, struct memory_image *m,
                      struct err *err);

/* The other way: memory_fd has m->size bytes, all holes; base_fd is needed (-EBADMSG without) if m shares pages. Data
 * that a digest does not fit, data where the image says there is none, or a file of another size is -EBADMSG "memory at
 * 0x…: …"; memory_fd is then of no use. */
int memory_image_load(int file_fd, int base_fd, const struct memory_image *m, int memory_fd, unsigned processes,
                      struct err *err);

/* Only checks. */
int memory_image_verify(int file_fd, int base_fd, const struct memory_image *m, unsigned processes, struct err *err);
