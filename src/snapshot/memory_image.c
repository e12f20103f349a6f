/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/memory_image.h"

#include <endian.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#if __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h> /* the widest instructions that this CPU has */
#else
#include <xxhash.h>
#endif

#include "base/fd.h"

#define CHUNK_PAGES (MEMORY_CHUNK / MEMORY_PAGE)

_Static_assert(CHUNK_PAGES == 64, "the pages of a chunk are the bits of a uint64_t");
_Static_assert(MEMORY_SEGMENT % MEMORY_CHUNK == 0, "a chunk is of one segment");
_Static_assert(MEMORY_DIGEST_SIZE == sizeof(XXH128_canonical_t), "digests are XXH3 of 128 bits");

/* In memory that is shared with the processes of one copy. */
struct run {
    atomic_uint next;     /* of job.order */
    atomic_uint finished; /* processes that came to the end */
    atomic_bool failed;   /* somebody did: the others stop */
    struct err err;       /* of the one that set failed */
    pthread_mutex_t turn; /* to write: robust, for a process may be killed */
};

/* Where the source has data, as far as it was asked: a hole from `hole` to `data`, then data up to `end`. The answer is
 * kept because asking takes as long as the extent has pages. */
struct extent {
    uint64_t hole, data, end;
};

struct source {
    int fd; /* -1: none */
    struct extent extent;
};

struct job {
    struct source in, base;
    int out;                   /* -1: only check */
    bool check;                /* compare with the segments; else fill them in */
    struct memory_image *made; /* of save */
    const struct memory_image *image;
    uint32_t *order;    /* of the segments, owned */
    uint8_t *buffer;    /* a chunk, owned */
    uint8_t *other;     /* the base's, of save; owned; NULL without */
    XXH3_state_t *hash; /* owned */
    struct run *run;    /* owned */
    /* Of this process, for loading. */
    int uffd;     /* -1: none */
    uint8_t *map; /* of `out`, registered; NULL: none */
};

static size_t chunks(uint64_t size) {
    return (size_t)((size + MEMORY_CHUNK - 1) / MEMORY_CHUNK);
}

static size_t mapping_size(uint64_t size, uint32_t n) {
    return sizeof(struct memory_image) + n * sizeof(struct memory_segment) + chunks(size) * sizeof(uint64_t);
}

int memory_image_new(uint64_t size, struct memory_image **ret, struct err *err) {
    if (size == 0 || size % MEMORY_PAGE || size > MEMORY_SEGMENT * MEMORY_SEGMENTS_MAX)
        return err_set(err, EINVAL, "memory of %llu bytes: must be a multiple of %llu up to %llu",
                       (unsigned long long)size, (unsigned long long)MEMORY_PAGE,
                       (unsigned long long)(MEMORY_SEGMENT * MEMORY_SEGMENTS_MAX));
    uint32_t n = (uint32_t)((size + MEMORY_SEGMENT - 1) / MEMORY_SEGMENT);
    struct memory_image *m =
        mmap(NULL, mapping_size(size, n), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED)
        return err_set(err, ENOMEM, "out of memory");
    *m = (struct memory_image){.size = size, .n = n, .segments = (struct memory_segment *)(m + 1)};
    m->base = (uint64_t *)(m->segments + n);
    *ret = m;
    return 0;
}

struct memory_image *memory_image_free(struct memory_image *m) {
    if (m)
        munmap(m, mapping_size(m->size, m->n));
    return NULL;
}

size_t memory_image_chunks(const struct memory_image *m, uint32_t i) {
    return MIN(chunks(m->size) - i * MEMORY_SEGMENT_CHUNKS, (size_t)MEMORY_SEGMENT_CHUNKS);
}

uint64_t memory_image_data(const struct memory_image *m) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->n; i++)
        sum += m->segments[i].data;
    return sum;
}

uint64_t memory_image_shared(const struct memory_image *m) {
    uint64_t pages = 0;
    for (size_t i = 0; i < chunks(m->size); i++)
        pages += (uint64_t)__builtin_popcountll(m->base[i]);
    return pages * MEMORY_PAGE;
}

static int wrong(uint64_t at, const char *what, struct err *err) {
    return err_set(err, EBADMSG, "memory at 0x%llx: %s", (unsigned long long)at, what);
}

static int failed(int code, uint64_t at, const char *what, struct err *err) {
    return err_errno(err, code, "memory at 0x%llx: cannot %s", (unsigned long long)at, what);
}

static bool page_is_zero(const uint8_t *page) {
    uint64_t first;
    memcpy(&first, page, sizeof(first));
    return first == 0 && memcmp(page, page + sizeof(first), MEMORY_PAGE - sizeof(first)) == 0;
}

/* Finds the first data of the source at `at` or behind it. In whole pages, whatever the file system's blocks are. */
static int find_extent(struct source *s, uint64_t size, uint64_t at, struct err *err) {
    struct extent *x = &s->extent;
    if (at >= x->hole && at < x->end)
        return 0;
    off_t data = lseek(s->fd, (off_t)at, SEEK_DATA);
    if (data < 0 && errno != ENXIO)
        return failed(errno, at, "find data", err);
    off_t end = data < 0 ? -1 : lseek(s->fd, data, SEEK_HOLE);
    if (data >= 0 && end < 0 && errno != ENXIO)
        return failed(errno, (uint64_t)data, "find the end of data", err);
    *x = (struct extent){.hole = at, .data = size, .end = size};
    /* A hole that was made between the two calls: nothing is known but that `at` may be data. */
    if (data >= 0 && end <= data)
        x->data = at;
    else if (data >= 0) {
        x->data = (uint64_t)data / MEMORY_PAGE * MEMORY_PAGE;
        x->end = ((uint64_t)end + MEMORY_PAGE - 1) / MEMORY_PAGE * MEMORY_PAGE;
    }
    return 0;
}

static int read_pages(int fd, uint8_t *to, uint64_t at, size_t len, struct err *err) {
    while (len) {
        ssize_t n = pread(fd, to, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed(errno, at, "read", err);
        if (n == 0)
            return wrong(at, "the file ends", err);
        to += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

static int write_pages(struct job *j, const uint8_t *from, uint64_t at, size_t len, struct err *err) {
    while (len) {
        ssize_t n = pwrite(j->out, from, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return failed(n < 0 ? errno : EIO, at, "write", err);
        from += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

/* Reads what the source (of `size` bytes) has from `at` to `end`, at most a chunk, into the buffer. A bit of ret_pages
 * is set for every page that is not zero; what the buffer holds of the others means nothing. */
static int read_chunk(struct source *s, uint64_t size, uint64_t at, uint64_t end, uint8_t *buffer, uint64_t *ret_pages,
                      struct err *err) {
    uint64_t pages = 0;
    for (uint64_t p = at; p < end;) {
        int r = find_extent(s, size, p, err);
        if (r < 0)
            return r;
        uint64_t from = MAX(p, s->extent.data), to = MIN(end, s->extent.end);
        if (from >= to) {
            p = to;
            continue;
        }
        r = read_pages(s->fd, buffer + (from - at), from, (size_t)(to - from), err);
        if (r < 0)
            return r;
        for (p = from; p < to; p += MEMORY_PAGE)
            if (!page_is_zero(buffer + (p - at)))
                pages |= UINT64_C(1) << ((p - at) / MEMORY_PAGE);
    }
    *ret_pages = pages;
    return 0;
}

/* The next run of pages from *i on: *ret_first and up to *i. False: there is none. */
static bool next_run(uint64_t pages, unsigned *i, unsigned *ret_first) {
    while (*i < CHUNK_PAGES && !(pages & UINT64_C(1) << *i))
        (*i)++;
    *ret_first = *i;
    while (*i < CHUNK_PAGES && pages & UINT64_C(1) << *i)
        (*i)++;
    return *i > *ret_first;
}

/* Of the pages in the buffer, those that the base has as well. */
static int compare_base(struct job *j, uint64_t at, uint64_t end, uint64_t pages, uint64_t *ret_same, struct err *err) {
    uint64_t there = 0, same = 0;
    int r = read_chunk(&j->base, j->image->size, at, end, j->other, &there, err);
    if (r < 0)
        return err_wrap(err, "the base");
    for (unsigned i = 0; i < CHUNK_PAGES; i++)
        if (pages & there & UINT64_C(1) << i &&
            memcmp(j->buffer + i * MEMORY_PAGE, j->other + i * MEMORY_PAGE, MEMORY_PAGE) == 0)
            same |= UINT64_C(1) << i;
    *ret_same = same;
    return 0;
}

/* Puts the base's pages into the buffer. */
static int read_base(struct job *j, uint64_t at, uint64_t pages, struct err *err) {
    for (unsigned i = 0, first; next_run(pages, &i, &first);) {
        int r = read_pages(j->base.fd, j->buffer + first * MEMORY_PAGE, at + first * MEMORY_PAGE,
                           (i - first) * MEMORY_PAGE, err);
        if (r < 0)
            return err_wrap(err, "the base");
    }
    return 0;
}

static int write_in_turn(struct job *j, const uint8_t *from, uint64_t at, size_t len, struct err *err) {
    if (pthread_mutex_lock(&j->run->turn) == EOWNERDEAD)
        (void)pthread_mutex_consistent(&j->run->turn); /* that one is missed at the end */
    int r = write_pages(j, from, at, len, err);
    (void)pthread_mutex_unlock(&j->run->turn);
    return r;
}

static void close_copier(struct job *j) {
    if (j->map)
        munmap(j->map, j->image->size);
    j->map = NULL;
    j->uffd = fd_close(j->uffd);
}

/* A context belongs to one process: each opens its own. */
static void open_copier(struct job *j) {
    struct uffdio_api api = {.api = UFFD_API};
    j->uffd = -1;
    j->map = NULL;
    if (!j->check || j->out < 0)
        return;
    j->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    void *map = j->uffd < 0 ? MAP_FAILED : mmap(NULL, j->image->size, PROT_READ | PROT_WRITE, MAP_SHARED, j->out, 0);
    if (map != MAP_FAILED)
        j->map = map;
    struct uffdio_register range = {.range = {.start = (uintptr_t)j->map, .len = j->image->size},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (!j->map || ioctl(j->uffd, UFFDIO_API, &api) < 0 || ioctl(j->uffd, UFFDIO_REGISTER, &range) < 0)
        close_copier(j);
}

/* Puts the bytes where nothing is yet, and those in the place of a page that is there. */
static int copy_in(struct job *j, const uint8_t *from, uint64_t at, size_t len, struct err *err) {
    while (len) {
        struct uffdio_copy copy = {.dst = (uintptr_t)j->map + at, .src = (uintptr_t)from, .len = len};
        int code = ioctl(j->uffd, UFFDIO_COPY, &copy) < 0 ? errno : 0;
        size_t n = copy.copy > 0 ? (size_t)copy.copy : 0;
        if (code == EEXIST) {
            int r = write_in_turn(j, from, at, MEMORY_PAGE, err);
            if (r < 0)
                return r;
            n = MEMORY_PAGE;
        } else if (code && !(code == EAGAIN && n)) {
            return failed(code, at, "write", err);
        }
        from += n;
        at += n;
        len -= n;
    }
    return 0;
}

static int write_run(struct job *j, const uint8_t *from, uint64_t at, size_t len, struct err *err) {
    if (j->out < 0)
        return 0;
    return j->map ? copy_in(j, from, at, len, err) : write_in_turn(j, from, at, len, err);
}

/* Hashes the runs of a chunk, and writes those of `own`. */
static int put_chunk(struct job *j, uint64_t at, uint64_t pages, uint64_t own, struct memory_segment *s,
                     struct err *err) {
    unsigned first;
    for (unsigned i = 0; next_run(pages, &i, &first);) {
        uint64_t start = at + first * MEMORY_PAGE, len = (i - first) * MEMORY_PAGE;
        uint64_t head[2] = {htole64(start % MEMORY_SEGMENT), htole64(len)};
        (void)XXH3_128bits_update(j->hash, head, sizeof(head));
        (void)XXH3_128bits_update(j->hash, j->buffer + first * MEMORY_PAGE, len);
        s->data += len;
    }
    for (unsigned i = 0; next_run(own, &i, &first);) {
        int r = write_run(j, j->buffer + first * MEMORY_PAGE, at + first * MEMORY_PAGE, (i - first) * MEMORY_PAGE, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int save_chunk(struct job *j, uint64_t at, uint64_t end, struct memory_segment *s, struct err *err) {
    uint64_t pages = 0, same = 0;
    int r = read_chunk(&j->in, j->image->size, at, end, j->buffer, &pages, err);
    if (r == 0 && pages && j->base.fd >= 0)
        r = compare_base(j, at, end, pages, &same, err);
    j->made->base[at / MEMORY_CHUNK] = same;
    return r < 0 ? r : put_chunk(j, at, pages, pages & ~same, s, err);
}

static int check_chunk(struct job *j, uint64_t at, uint64_t end, struct memory_segment *s, struct err *err) {
    uint64_t pages = 0, base = j->image->base[at / MEMORY_CHUNK];
    uint32_t index = (uint32_t)(at / MEMORY_SEGMENT);
    int r = base == UINT64_MAX ? 0 : read_chunk(&j->in, j->image->size, at, end, j->buffer, &pages, err);
    if (r == 0)
        r = read_base(j, at, base, err);
    pages |= base;
    if (r == 0 && pages && j->image->segments[index].data == 0)
        r = wrong(index * MEMORY_SEGMENT, "there is data, and the image says that there is none", err);
    return r < 0 ? r : put_chunk(j, at, pages, pages, s, err);
}

static int do_segment(struct job *j, uint32_t index, struct err *err) {
    uint64_t start = index * MEMORY_SEGMENT, end = MIN(start + MEMORY_SEGMENT, j->image->size);
    struct memory_segment s = {0};
    (void)XXH3_128bits_reset(j->hash);
    for (uint64_t at = start; at < end; at += MEMORY_CHUNK) {
        uint64_t to = MIN(at + MEMORY_CHUNK, end);
        int r = j->check ? check_chunk(j, at, to, &s, err) : save_chunk(j, at, to, &s, err);
        if (r < 0)
            return r;
    }
    if (s.data) {
        XXH128_canonical_t bytes;
        XXH128_canonicalFromHash(&bytes, XXH3_128bits_digest(j->hash));
        memcpy(s.digest, bytes.digest, sizeof(s.digest));
    }
    if (!j->check) {
        j->made->segments[index] = s;
        return 0;
    }
    const struct memory_segment *want = &j->image->segments[index];
    if (s.data != want->data)
        return err_set(err, EBADMSG, "memory at 0x%llx: %llu bytes of data, and the image says %llu",
                       (unsigned long long)start, (unsigned long long)s.data, (unsigned long long)want->data);
    if (s.data && memcmp(s.digest, want->digest, sizeof(s.digest)) != 0)
        return wrong(start, "the contents do not fit the digest", err);
    return 0;
}

/* One process's part: segments until there are none or somebody failed. */
static void work(struct job *j) {
    struct err err = ERR_INIT;
    open_copier(j);
    while (!atomic_load(&j->run->failed)) {
        unsigned i = atomic_fetch_add(&j->run->next, 1);
        if (i >= j->image->n)
            break;
        if (do_segment(j, j->order[i], &err) < 0) {
            if (!atomic_exchange(&j->run->failed, true))
                j->run->err = err;
            break;
        }
    }
    close_copier(j);
    atomic_fetch_add(&j->run->finished, 1);
}

static pid_t start_child(struct job *j) {
    pid_t parent = getpid(), pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent)
        work(j);
    _exit(0);
}

static int run(struct job *j, unsigned processes, struct err *err) {
    pid_t children[MEMORY_PROCESSES_MAX];
    unsigned n = 0;
    processes = MAX(1, MIN(MIN(processes, j->image->n), MEMORY_PROCESSES_MAX));
    while (n + 1 < processes) {
        children[n] = start_child(j);
        /* No more processes: those that are there do the work, this one if need be. */
        if (children[n] < 0)
            break;
        n++;
    }
    work(j);
    int status = 0, worst = 0;
    for (unsigned i = 0; i < n; i++) {
        while (waitpid(children[i], &status, 0) < 0 && errno == EINTR)
            ;
        worst = status ? status : worst;
    }
    if (atomic_load(&j->run->finished) != n + 1)
        return err_set(err, EIO, "memory: a process that copied it ended with %s %d",
                       WIFSIGNALED(worst) ? "signal" : "exit code",
                       WIFSIGNALED(worst) ? WTERMSIG(worst) : WEXITSTATUS(worst));
    return atomic_load(&j->run->failed) ? err_copy(err, &j->run->err) : 0;
}

/* Those with most data first: a large one that is taken last would be waited for. */
static int by_data(const void *a, const void *b, void *image) {
    const struct memory_image *m = image;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    uint64_t dx = m->segments[x].data, dy = m->segments[y].data;
    if (dx != dy)
        return dx < dy ? 1 : -1;
    return x < y ? -1 : x > y;
}

static struct run *new_run(void) {
    pthread_mutexattr_t attr;
    struct run *run = mmap(NULL, sizeof(*run), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (run == MAP_FAILED)
        return NULL;
    (void)pthread_mutexattr_init(&attr); /* none of these can fail */
    (void)pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    (void)pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    (void)pthread_mutex_init(&run->turn, &attr);
    (void)pthread_mutexattr_destroy(&attr);
    return run;
}

static int copy(struct job *j, unsigned processes, struct err *err) {
    uint32_t n = j->image->n;
    int r;
    j->order = calloc(n, sizeof(*j->order));
    j->buffer = aligned_alloc(MEMORY_PAGE, MEMORY_CHUNK);
    j->other = j->base.fd >= 0 && !j->check ? aligned_alloc(MEMORY_PAGE, MEMORY_CHUNK) : NULL;
    j->hash = XXH3_createState();
    j->run = new_run();
    if (j->order && j->buffer && j->hash && j->run && (j->other || j->base.fd < 0 || j->check)) {
        for (uint32_t i = 0; i < n; i++)
            j->order[i] = i;
        if (j->check && processes > 1)
            qsort_r(j->order, n, sizeof(*j->order), by_data, (void *)(uintptr_t)j->image);
        r = run(j, processes, err);
    } else
        r = err_set(err, ENOMEM, "out of memory");
    free(j->order);
    free(j->buffer);
    free(j->other);
    XXH3_freeState(j->hash);
    if (j->run)
        munmap(j->run, sizeof(*j->run));
    return r;
}

static int file_size(int fd, const char *what, uint64_t *ret, struct err *err) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot stat %s", what);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "%s is not a regular file", what);
    *ret = (uint64_t)st.st_size;
    return 0;
}

static int check_base(int base_fd, const struct memory_image *m, struct err *err) {
    uint64_t have = 0;
    if (base_fd < 0)
        return 0;
    int r = file_size(base_fd, "the base", &have, err);
    return r < 0 || have == m->size ? r
                                    : err_set(err, EBADMSG, "memory: the base has %llu bytes, and must have %llu",
                                              (unsigned long long)have, (unsigned long long)m->size);
}

int memory_image_save(int memory_fd, int file_fd, int base_fd, unsigned processes, struct memory_image *m,
                      struct err *err) {
    uint64_t have = 0, there = 0;
    int r = file_size(memory_fd, "the memory", &have, err);
    if (r < 0 || (r = file_size(file_fd, "the image", &there, err)) < 0 || (r = check_base(base_fd, m, err)) < 0)
        return r;
    if (have != m->size)
        return err_set(err, EINVAL, "the memory has %llu bytes, not %llu", (unsigned long long)have,
                       (unsigned long long)m->size);
    if (there != 0)
        return err_set(err, EINVAL, "the file for the image is not empty");
    if (ftruncate(file_fd, (off_t)m->size) < 0)
        return err_errno(err, errno, "cannot size the image to %llu bytes", (unsigned long long)m->size);
    struct job j = {.in = {.fd = memory_fd}, .base = {.fd = base_fd}, .out = file_fd, .made = m, .image = m};
    return copy(&j, processes, err);
}

static int check_files(int file_fd, int base_fd, const struct memory_image *m, struct err *err) {
    uint64_t have = 0;
    int r = file_size(file_fd, "the image", &have, err);
    if (r == 0)
        r = check_base(base_fd, m, err);
    if (r == 0 && base_fd < 0 && memory_image_shared(m))
        r = err_set(err, EBADMSG, "memory: it shares pages with a base, and there is none");
    if (r < 0)
        return r;
    if (have < m->size)
        return wrong(have, "the file ends", err);
    if (have > m->size)
        return wrong(m->size, "the file goes on behind the end", err);
    return 0;
}

int memory_image_load(int file_fd, int base_fd, const struct memory_image *m, int memory_fd, unsigned processes,
                      struct err *err) {
    uint64_t room = 0;
    int r = check_files(file_fd, base_fd, m, err);
    if (r < 0 || (r = file_size(memory_fd, "the memory", &room, err)) < 0)
        return r;
    if (room != m->size)
        return err_set(err, EINVAL, "the memory has %llu bytes, and the image %llu", (unsigned long long)room,
                       (unsigned long long)m->size);
    struct job j = {.in = {.fd = file_fd}, .base = {.fd = base_fd}, .out = memory_fd, .check = true, .image = m};
    return copy(&j, processes, err);
}

int memory_image_verify(int file_fd, int base_fd, const struct memory_image *m, unsigned processes, struct err *err) {
    int r = check_files(file_fd, base_fd, m, err);
    if (r < 0)
        return r;
    struct job j = {.in = {.fd = file_fd}, .base = {.fd = base_fd}, .out = -1, .check = true, .image = m};
    return copy(&j, processes, err);
}
