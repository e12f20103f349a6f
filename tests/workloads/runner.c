/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's first process: many workloads in one container, so that one dump and one restore try them all.
 * Usage: runner NAME… ; the programs are beside it.
 *
 * Each workload runs in a directory of its name below the working directory, its standard input and output are pipes of
 * ours. The host speaks with us by files: when "request" there holds another number than the last, every workload is
 * told to check, and what each says goes to "results", a line each, closed by "done NUMBER". The first round, number 0,
 * is what they say once they are set up. Files, since the host sees them without a process in the container.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKLOADS_MAX 64
#define ANSWER_MSEC 120000 /* for a workload's answer */
#define POLL_MSEC 100      /* between two looks at "request" */
#define LINE_BYTES 512

struct workload {
    const char *name;
    int in, out; /* our ends; -1 once it has failed */
};

__attribute__((noreturn)) static void die(const char *what) {
    perror(what);
    exit(2);
}

/* In the child: the program with our pipes, in its directory. */
__attribute__((noreturn)) static void run(const char *folder, const char *name, int in, int out) {
    char program[4096];
    if (chdir(name) || dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
        die(name);
    if (snprintf(program, sizeof(program), "%s/%s", folder, name) < (int)sizeof(program))
        execl(program, name, (char *)NULL);
    die(program);
}

static void start(struct workload *w, const char *folder, const char *name) {
    int in[2], out[2];
    if ((mkdir(name, 0777) && errno != EEXIST) || pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
        die(name);
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0)
        run(folder, name, in[0], out[1]);
    (void)close(in[0]);
    (void)close(out[1]);
    *w = (struct workload){.name = name, .in = in[1], .out = out[0]};
}

__attribute__((format(printf, 1, 2))) static void report(const char *format, ...) {
    FILE *f = fopen("results", "ae");
    if (!f)
        die("results");
    va_list ap;
    va_start(ap, format);
    (void)vfprintf(f, format, ap);
    va_end(ap);
    if (fclose(f))
        die("results");
}

/* One line without its end; false when there is none in time. */
static bool read_line(int fd, char *line, size_t size) {
    for (size_t n = 0; n + 1 < size;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = poll(&p, 1, ANSWER_MSEC);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0 || read(fd, line + n, 1) != 1)
            return false;
        if (line[n] == '\n') {
            line[n] = '\0';
            return true;
        }
        n++;
    }
    return false;
}

/* What each says, "ready" or "pass" or why not. One that has failed is told as failed in every later round too. */
static void collect(struct workload *all, int n, int round) {
    for (int i = 0; i < n; i++) {
        char line[LINE_BYTES];
        struct workload *w = &all[i];
        if (w->out < 0) {
            report("%d %s: fail: failed before\n", round, w->name);
            continue;
        }
        if (!read_line(w->out, line, sizeof(line)))
            (void)snprintf(line, sizeof(line), "fail: no answer");
        report("%d %s: %s\n", round, w->name, line);
        if (strcmp(line, "pass") != 0 && strcmp(line, "ready") != 0)
            w->out = -1;
    }
    report("done %d\n", round);
}

/* Waits for another number than the last in "request". */
static int wait_for_request(int last) {
    for (;;) {
        int number = last;
        FILE *f = fopen("request", "re");
        if (f) {
            if (fscanf(f, "%d", &number) != 1)
                number = last;
            (void)fclose(f);
        }
        if (number != last)
            return number;
        (void)nanosleep(&(struct timespec){.tv_nsec = POLL_MSEC * 1000000L}, NULL);
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
}

int main(int argc, char **argv) {
    static struct workload all[WORKLOADS_MAX];
    int n = argc - 1;
    if (n < 1 || n > WORKLOADS_MAX) {
        fprintf(stderr, "usage: %s NAME… (up to %d)\n", argv[0], WORKLOADS_MAX);
        return 2;
    }
    char *slash = strrchr(argv[0], '/');
    if (!slash)
        return 2;
    *slash = '\0';
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        die("signal");
    for (int i = 0; i < n; i++)
        start(&all[i], argv[0], argv[i + 1]);
    for (int round = 0;; round = wait_for_request(round)) {
        for (int i = 0; round > 0 && i < n; i++)
            if (all[i].out >= 0 && write(all[i].in, "check\n", 6) != 6)
                fprintf(stderr, "%s does not listen\n", all[i].name);
        collect(all, n, round);
    }
}
