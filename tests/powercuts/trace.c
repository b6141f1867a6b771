/* Writes down what a process asks of files below a folder, so that a power cut can be made up from
 * it. Preloaded; REVFS_TRACE_ROOT is the folder, REVFS_TRACE_LOG where the records go, appended.
 *
 * A record: u32 length of what follows, u8 kind, u64 file (inode), u64 offset, u32 length of the
 * first part, u32 of the second, and the parts: a path, or bytes; for a rename both paths.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 'c', WRITE = 'w', SYNC = 's', CUT = 't', RENAME = 'r', UNLINK = 'u', MKDIR = 'm',
       RMDIR = 'd', LINK = 'l' };


static int log_descriptor = -2;

static const char *root(void) { return getenv("REVFS_TRACE_ROOT"); }

static int is_below(const char *path) {
    const char *top = root();
    size_t length = top ? strlen(top) : 0;
    return top && !strncmp(path, top, length) && (path[length] == '/' || !path[length]);
}

static void record(char kind, uint64_t file, uint64_t offset, const void *first, uint32_t length,
                   const void *second, uint32_t more) {
    int saved = errno;
    if (log_descriptor == -2) {
        const char *name = getenv("REVFS_TRACE_LOG");
        log_descriptor =
            name ? (int)syscall(SYS_openat, AT_FDCWD, name,
                                O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    }
    if (log_descriptor >= 0) {
        struct __attribute__((packed)) {
            uint32_t total; uint8_t kind; uint64_t file, offset; uint32_t length, more;
        } head = {25 + length + more, kind, file, offset, length, more};
        struct iovec parts[3] = {
            {&head, sizeof head}, {(void *)first, length}, {(void *)second, more}};
        syscall(SYS_writev, log_descriptor, parts, 3);
    }
    errno = saved;
}

static void resolve(int folder, const char *path, char *into) {
    char base[4096] = "";
    if (path[0] == '/') {
        snprintf(into, 8192, "%s", path);
        return;
    }
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) base[0] = 0;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, base, sizeof base - 1);
        base[length < 0 ? 0 : length] = 0;
    }
    snprintf(into, 8192, "%s/%s", base, path);
}

/* Whether the file of a descriptor is below the root, with its inode; its path, if wanted. */
static int traced(int descriptor, struct stat *status, char *path) {
    char link[64], own[4096];
    if (!root()) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, own, sizeof own - 1);
    if (length < 0) return 0;
    own[length] = 0;
    if (!is_below(own) || fstat(descriptor, status)) return 0;
    if (path) strcpy(path, own);
    return 1;
}

static int opened(int folder, const char *path, int flags, int existed, int descriptor) {
    struct stat status;
    char own[4096];
    (void)folder, (void)path;
    if (descriptor >= 0 && (flags & (O_CREAT | O_TRUNC)) && traced(descriptor, &status, own)) {
        if (!existed) record(CREATE, status.st_ino, 0, own, strlen(own), "", 0);
        else if (flags & O_TRUNC) record(CUT, status.st_ino, 0, "", 0, "", 0);
    }
    return descriptor;
}

static int exists(int folder, const char *path) {
    struct stat status;
    int saved = errno, found = !fstatat(folder, path, &status, AT_SYMLINK_NOFOLLOW);
    errno = saved;
    return found;
}

#define OPEN(name, folder_parameter, folder)                                                       \
    int name(folder_parameter const char *path, int flags, ...) {                                  \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = va_arg(rest, mode_t);                                                        \
        va_end(rest);                                                                              \
        int existed = !(flags & O_CREAT) || exists(folder, path);                                  \
        int descriptor = (int)syscall(SYS_openat, folder, path, flags, mode);                      \
        return opened(folder, path, flags, existed, descriptor);                                   \
    }
#define NOTHING
OPEN(open, NOTHING, AT_FDCWD)
OPEN(open64, NOTHING, AT_FDCWD)
#define FOLDER int at,
OPEN(openat, FOLDER, at)
OPEN(openat64, FOLDER, at)

static void wrote(int descriptor, off_t offset, const void *bytes, ssize_t length) {
    struct stat status;
    if (length <= 0 || !traced(descriptor, &status, NULL) || !S_ISREG(status.st_mode)) return;
    record(WRITE, status.st_ino, (uint64_t)offset, bytes, (uint32_t)length, "", 0);
    if (fcntl(descriptor, F_GETFL) & O_DSYNC) record(SYNC, status.st_ino, 0, "", 0, "", 0);
}

ssize_t write(int descriptor, const void *bytes, size_t length) {
    ssize_t done = syscall(SYS_write, descriptor, bytes, length);
    if (done > 0 && root()) {
        off_t end = lseek(descriptor, 0, SEEK_CUR);
        if (end >= 0) wrote(descriptor, end - done, bytes, done);
    }
    return done;
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t length, off_t offset) {
    ssize_t done = syscall(SYS_pwrite64, descriptor, bytes, length, offset);
    wrote(descriptor, offset, bytes, done);
    return done;
}
ssize_t pwrite(int descriptor, const void *bytes, size_t length, off_t offset) {
    return pwrite64(descriptor, bytes, length, offset);
}

static void wrote_parts(int descriptor, off_t offset, const struct iovec *parts, int count,
                        ssize_t done) {
    for (int number = 0; number < count && done > 0; number++) {
        ssize_t length = (ssize_t)parts[number].iov_len;
        if (length > done) length = done;
        wrote(descriptor, offset, parts[number].iov_base, length);
        offset += length, done -= length;
    }
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    ssize_t done = syscall(SYS_writev, descriptor, parts, count);
    if (done > 0 && root()) {
        off_t end = lseek(descriptor, 0, SEEK_CUR);
        if (end >= 0) wrote_parts(descriptor, end - done, parts, count, done);
    }
    return done;
}
ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off_t offset) {
    ssize_t done = syscall(SYS_pwritev, descriptor, parts, count, offset, 0);
    wrote_parts(descriptor, offset, parts, count, done);
    return done;
}
ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) {
    return pwritev64(descriptor, parts, count, offset);
}

static int synced(int descriptor, int result) {
    struct stat status;
    char path[4096];
    if (!result && traced(descriptor, &status, path))
        record(SYNC, status.st_ino, S_ISDIR(status.st_mode), path, strlen(path), "", 0);
    return result;
}
int fsync(int descriptor) { return synced(descriptor, (int)syscall(SYS_fsync, descriptor)); }
int fdatasync(int descriptor) {
    return synced(descriptor, (int)syscall(SYS_fdatasync, descriptor));
}

int ftruncate64(int descriptor, off_t length) {
    struct stat status;
    int result = (int)syscall(SYS_ftruncate, descriptor, length);
    if (!result && traced(descriptor, &status, NULL))
        record(CUT, status.st_ino, (uint64_t)length, "", 0, "", 0);
    return result;
}
int ftruncate(int descriptor, off_t length) { return ftruncate64(descriptor, length); }

static int renamed(int from_folder, const char *from, int to_folder, const char *to, int result,
                   char kind) {
    char before[8192], after[8192];
    if (result || !root()) return result;
    resolve(from_folder, from, before);
    resolve(to_folder, to, after);
    if (is_below(after) || is_below(before))
        record(kind, 0, 0, before, strlen(before), after, strlen(after));
    return result;
}
int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    int result = (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    return renamed(from_at, from, to_at, to, result, RENAME);
}
int renameat(int from_at, const char *from, int to_at, const char *to) {
    return renameat2(from_at, from, to_at, to, 0);
}
int rename(const char *from, const char *to) {
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}
int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    int result = (int)syscall(SYS_linkat, from_at, from, to_at, to, flags);
    return renamed(from_at, from, to_at, to, result, LINK);
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

static int named(char kind, int folder, const char *path, int result) {
    char own[8192];
    if (result || !root()) return result;
    resolve(folder, path, own);
    if (is_below(own)) record(kind, 0, 0, own, strlen(own), "", 0);
    return result;
}
int unlinkat(int folder, const char *path, int flags) {
    int result = (int)syscall(SYS_unlinkat, folder, path, flags);
    return named(flags & AT_REMOVEDIR ? RMDIR : UNLINK, folder, path, result);
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int mkdirat(int folder, const char *path, mode_t mode) {
    return named(MKDIR, folder, path, (int)syscall(SYS_mkdirat, folder, path, mode));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
