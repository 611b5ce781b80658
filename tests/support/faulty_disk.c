/* Faults on demand in the file operations under one directory, for a process that preloads this library.
 *
 * After faults_arm(directory, mode, at, reads) the operations on paths below the directory are counted. At operation
 * number `at` the process ends at once, before or after it, as if it had been killed; or this operation and all later
 * ones fail, as on a full or broken disk. C libraries write checkpoints too, so that no patch of Python would do.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, CRASH_BEFORE, CRASH_AFTER, NO_SPACE, IO_ERROR };
enum { READS = 1, CHANGES = 2, GROWS = 4 }; /* what an operation does; only what grows needs space */

static char directory[PATH_MAX];
static int mode, counted;
static long at;
static atomic_long count;

void faults_arm(const char *path, int new_mode, long new_at, int reads) {
  mode = new_mode, at = new_at, counted = CHANGES | GROWS | (reads ? READS : 0);
  atomic_store(&count, 0);
  snprintf(directory, sizeof directory, "%s", path);
}

/* For a command that knows nothing of this: FAULTS="MODE DIRECTORY", from the first operation on. */
__attribute__((constructor)) static void arm_from_environment(void) {
  const char *order = getenv("FAULTS");
  if (order) faults_arm(strchr(order, ' ') + 1, atoi(order), 1, 0);
}

long faults_count(void) { return atomic_load(&count); }

static void crash(const char *when, const char *name, const char *path) {
  dprintf(2, "crash %s operation %ld: %s %s\n", when, at, name, path);
  _exit(137);
}

/* The number of the operation, 0 if it does not count, -1 with errno set if it has to fail. */
static long begin(const char *name, int kind, int fd, const char *path, char *whole) {
  if (!*directory || !(kind & counted)) return 0;
  if (path && *path == '/') {
    snprintf(whole, PATH_MAX, "%s", path);
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, whole, PATH_MAX - 1);
    if (length < 0) return 0;
    whole[length] = 0;
    if (path) snprintf(whole + length, PATH_MAX - length, "/%s", path);
  }
  if (strncmp(whole, directory, strlen(directory))) return 0;
  long number = atomic_fetch_add(&count, 1) + 1;
  if (mode == CRASH_BEFORE && number == at) crash("before", name, whole);
  if (mode == NO_SPACE && number >= at && (kind & GROWS)) return errno = ENOSPC, -1;
  if (mode == IO_ERROR && number >= at) return errno = EIO, -1;
  return number;
}

static void end(long number, const char *name, const char *path) {
  int saved = errno;
  if (mode == CRASH_AFTER && number && number == at) crash("after", name, path);
  errno = saved;
}

#define WRAP(result, name, parameters, arguments, kind, fd, path)                            \
  result name parameters {                                                                   \
    static result(*real) parameters;                                                         \
    if (!real) real = (result(*) parameters)dlsym(RTLD_NEXT, #name);                         \
    char whole[PATH_MAX];                                                                    \
    long number = begin(#name, kind, fd, path, whole);                                       \
    if (number < 0) return -1;                                                               \
    result value = real arguments;                                                           \
    end(number, #name, whole);                                                               \
    return value;                                                                            \
  }

#define OPENS(flags) ((flags) & O_CREAT ? GROWS : (flags) & (O_WRONLY | O_RDWR | O_TRUNC) ? CHANGES : READS)

#define WRAP_OPEN(name, parameters, arguments, fd)                                           \
  int name parameters {                                                                      \
    static int (*real) parameters;                                                           \
    if (!real) real = (int (*) parameters)dlsym(RTLD_NEXT, #name);                           \
    va_list list;                                                                            \
    va_start(list, flags);                                                                   \
    mode_t permissions = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;           \
    va_end(list);                                                                            \
    char whole[PATH_MAX];                                                                    \
    long number = begin(#name, OPENS(flags), fd, path, whole);                               \
    if (number < 0) return -1;                                                               \
    int value = real arguments;                                                              \
    end(number, #name, whole);                                                               \
    return value;                                                                            \
  }

WRAP_OPEN(open, (const char *path, int flags, ...), (path, flags, permissions), AT_FDCWD)
WRAP_OPEN(open64, (const char *path, int flags, ...), (path, flags, permissions), AT_FDCWD)
WRAP_OPEN(openat, (int fd, const char *path, int flags, ...), (fd, path, flags, permissions), fd)
WRAP_OPEN(openat64, (int fd, const char *path, int flags, ...), (fd, path, flags, permissions), fd)

WRAP(ssize_t, read, (int fd, void *to, size_t n), (fd, to, n), READS, fd, NULL)
WRAP(ssize_t, pread, (int fd, void *to, size_t n, off_t o), (fd, to, n, o), READS, fd, NULL)
WRAP(ssize_t, pread64, (int fd, void *to, size_t n, off64_t o), (fd, to, n, o), READS, fd, NULL)
WRAP(ssize_t, readv, (int fd, const struct iovec *v, int n), (fd, v, n), READS, fd, NULL)
WRAP(ssize_t, preadv, (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o), READS, fd, NULL)

WRAP(ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n), GROWS, fd, NULL)
WRAP(ssize_t, pwrite, (int fd, const void *from, size_t n, off_t o), (fd, from, n, o), GROWS, fd, NULL)
WRAP(ssize_t, pwrite64, (int fd, const void *from, size_t n, off64_t o), (fd, from, n, o), GROWS, fd, NULL)
WRAP(ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n), GROWS, fd, NULL)
WRAP(ssize_t, pwritev, (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o), GROWS, fd, NULL)
WRAP(int, ftruncate, (int fd, off_t n), (fd, n), CHANGES, fd, NULL)
WRAP(int, ftruncate64, (int fd, off64_t n), (fd, n), CHANGES, fd, NULL)
WRAP(int, fsync, (int fd), (fd), CHANGES, fd, NULL)
WRAP(int, fdatasync, (int fd), (fd), CHANGES, fd, NULL)

WRAP(int, mkdir, (const char *path, mode_t m), (path, m), GROWS, AT_FDCWD, path)
WRAP(int, mkdirat, (int fd, const char *path, mode_t m), (fd, path, m), GROWS, fd, path)
WRAP(int, rename, (const char *path, const char *to), (path, to), CHANGES, AT_FDCWD, path)
WRAP(int, renameat, (int fd, const char *path, int f, const char *to), (fd, path, f, to), CHANGES, fd, path)
WRAP(int, link, (const char *path, const char *to), (path, to), GROWS, AT_FDCWD, path)
WRAP(int, unlink, (const char *path), (path), CHANGES, AT_FDCWD, path)
WRAP(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags), CHANGES, fd, path)
WRAP(int, rmdir, (const char *path), (path), CHANGES, AT_FDCWD, path)
