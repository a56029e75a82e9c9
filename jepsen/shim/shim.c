/*
 * Before libc in the processes of a run (LD_PRELOAD): what clocks say and how long a sync takes, as a mapped file asks, at every call anew.
 *
 * The file has sixteen words of 64 bits; `src/shim.rs` writes them and says what they mean. Without REGENT_SHIM, or without such a file, everything is as it
 * is. CLOCK_TAI is always true: a probe compares the others with it. What does not go through libc is not met: vDSO calls of one's own, io_uring.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { SEQUENCE, WALL_OFFSET, STROBE, STROBE_PERIOD, ANCHOR, DRIFT, RATE, RATE_BEFORE, SYNC_DELAY, CLOCK_READS, SYNCS, WORDS = 16 };

static _Atomic int64_t *shared;
static int (*real_gettime)(clockid_t, struct timespec *);
static long (*real_syscall)(long, ...);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

static const int64_t SECOND = 1000000000;
static const int64_t MILLION = 1000000;

/* Before the constructor of this library others may ask already. */
static void resolve(void) {
    if (real_gettime) return;
    real_syscall = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    real_fsync = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
}

__attribute__((constructor)) static void begin(void) {
    resolve();
    const char *path = getenv("REGENT_SHIM");
    if (!path) return;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *map = mmap(NULL, WORDS * sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED) shared = map;
}

/* What is asked for, all of one writing. */
static int look(int64_t *asked) {
    if (!shared) return 0;
    /* Whoever writes may have been killed in the middle of it. */
    for (int tries = 0; tries < 1000000; tries++) {
        int64_t before = atomic_load(&shared[SEQUENCE]);
        for (int n = WALL_OFFSET; n <= SYNC_DELAY; n++) asked[n] = atomic_load(&shared[n]);
        if (before % 2 == 0 && atomic_load(&shared[SEQUENCE]) == before) break;
    }
    return 1;
}

static int64_t nanos(const struct timespec *time) { return time->tv_sec * SECOND + time->tv_nsec; }

static void split(int64_t nanos, struct timespec *time) {
    time->tv_sec = nanos / SECOND;
    time->tv_nsec = nanos % SECOND;
    if (time->tv_nsec < 0) {
        time->tv_sec -= 1;
        time->tv_nsec += SECOND;
    }
}

/* So far is the monotonic clock off at a true time of it. */
static int64_t drift(const int64_t *asked, int64_t now) {
    int64_t since = now - asked[ANCHOR];
    int64_t rate = since < 0 ? asked[RATE_BEFORE] : asked[RATE];
    return asked[DRIFT] + (int64_t)((__int128)since * rate / MILLION);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    resolve();
    int result = real_gettime(clock, time);
    int64_t asked[WORDS];
    if (result != 0 || !look(asked)) return result;
    struct timespec monotonic;
    if (real_gettime(CLOCK_MONOTONIC, &monotonic) != 0) return result;
    int64_t now = nanos(&monotonic);
    switch (clock) {
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
        split(nanos(time) + drift(asked, now), time);
        break;
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE: {
        int64_t off = asked[WALL_OFFSET];
        if (now > asked[ANCHOR]) off += (int64_t)((__int128)(now - asked[ANCHOR]) * asked[RATE] / MILLION);
        if (asked[STROBE_PERIOD] > 0 && now / asked[STROBE_PERIOD] % 2 != 0) off += asked[STROBE];
        split(nanos(time) + off, time);
        break;
    }
    default:
        return result;
    }
    atomic_fetch_add(&shared[CLOCK_READS], 1);
    return result;
}

int gettimeofday(struct timeval *time, void *zone) {
    (void)zone;
    struct timespec precise;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0) return -1;
    time->tv_sec = precise.tv_sec;
    time->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *place) {
    struct timespec precise;
    if (clock_gettime(CLOCK_REALTIME, &precise) != 0) return (time_t)-1;
    if (place) *place = precise.tv_sec;
    return precise.tv_sec;
}

/* A thread that waits until a time of the clock that it was shown waits until then, and not until the kernel's clock says so. */
long syscall(long number, ...) {
    resolve();
    va_list list;
    va_start(list, number);
    long a[6];
    for (int n = 0; n < 6; n++) a[n] = va_arg(list, long);
    va_end(list);
    struct timespec until;
    int64_t asked[WORDS];
    if (number == SYS_futex && a[3] != 0 && (a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && !(a[1] & FUTEX_CLOCK_REALTIME) && look(asked)) {
        int64_t since = nanos((const struct timespec *)a[3]) - asked[ANCHOR] - asked[DRIFT];
        int64_t rate = since < 0 ? asked[RATE_BEFORE] : asked[RATE];
        int64_t true_time = asked[ANCHOR] + (int64_t)((__int128)since * MILLION / (MILLION + rate));
        split(true_time < 0 ? 0 : true_time, &until);
        a[3] = (long)&until;
    }
    return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* A sync that takes longer. */
static void dawdle(void) {
    int64_t asked[WORDS];
    if (!look(asked)) return;
    atomic_fetch_add(&shared[SYNCS], 1);
    if (asked[SYNC_DELAY] <= 0) return;
    int error = errno;
    struct timespec left;
    split(asked[SYNC_DELAY], &left);
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
    errno = error;
}

int fsync(int file) {
    resolve();
    int result = real_fsync(file);
    dawdle();
    return result;
}

int fdatasync(int file) {
    resolve();
    int result = real_fdatasync(file);
    dawdle();
    return result;
}
