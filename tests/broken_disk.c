/* System calls that fail by a script; see broken_disk.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int calls, names;

/* Whether a call on a file is to fail: BROKEN_DISK=part of its path:kind:errno:calls that succeed first */
static int fails(int fd, const char *kind) {
    const char *script = getenv("BROKEN_DISK");
    char part[256], wanted[16], link[64], path[4096];
    int error, skip;
    if (!script || sscanf(script, "%255[^:]:%15[^:]:%d:%d", part, wanted, &error, &skip) != 4) return 0;
    if (strcmp(kind, wanted)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    if (!strstr(path, part) || atomic_fetch_add(&calls, 1) < skip) return 0;
    errno = error;
    return 1;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) { REAL(write); return fails(fd, "write") ? -1 : real(fd, data, size); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { REAL(pwrite); return fails(fd, "write") ? -1 : real(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { REAL(pwrite64); return fails(fd, "write") ? -1 : real(fd, data, size, at); }
ssize_t read(int fd, void *data, size_t size) { REAL(read); return fails(fd, "read") ? -1 : real(fd, data, size); }
ssize_t pread(int fd, void *data, size_t size, off_t at) { REAL(pread); return fails(fd, "read") ? -1 : real(fd, data, size, at); }
ssize_t pread64(int fd, void *data, size_t size, off64_t at) { REAL(pread64); return fails(fd, "read") ? -1 : real(fd, data, size, at); }
int fsync(int fd) { REAL(fsync); return fails(fd, "sync") ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return fails(fd, "sync") ? -1 : real(fd); }

/* HANGING_NAME=host:look-ups that hang:for so many seconds */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    REAL(getaddrinfo);
    const char *script = getenv("HANGING_NAME");
    char host[256];
    int times, seconds;
    if (!script || !node || sscanf(script, "%255[^:]:%d:%d", host, &times, &seconds) != 3 || strcmp(node, host)) return real(node, service, hints, found);
    if (atomic_fetch_add(&names, 1) < times) sleep(seconds);
    return real("127.0.0.1", service, hints, found);
}
