/* A disk that fills up, for one process and what it forks: LD_PRELOAD=full.so. full_disk(root, room, how, where) lets `room` calls
 * through that take something of the disk below `root`; all later ones fail, as `how` says:
 *   0 ENOSPC   1 EDQUOT   2 ENOSPC for new files alone: no inodes are left   3 EROFS, for calls that remove something, too
 * The path of the first call that failed is appended to the file `where`. Without that call nothing ever fails. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NOSPC, QUOTA, INODES, READONLY };
enum { GROWS, CREATES, REMOVES };
static char root[PATH_MAX], where[PATH_MAX];
static long room;
static int how, on, met;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

void full_disk(const char *below, long calls, int kind, const char *file) {
  snprintf(root, sizeof root, "%s", below);
  snprintf(where, sizeof where, "%s", file);
  room = calls, how = kind, met = 0, on = 1;
}

/* Whether this call finds no room: errno says why. */
static int refused(const char *path, int what) {
  if (!on || !path || strncmp(path, root, strlen(root)) != 0) return 0;
  if ((how == INODES && what != CREATES) || (how != READONLY && what == REMOVES)) return 0;
  if (__atomic_sub_fetch(&room, 1, __ATOMIC_SEQ_CST) >= 0) return 0;
  if (!__atomic_exchange_n(&met, 1, __ATOMIC_SEQ_CST)) {
    int fd = REAL(open)(where, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    char line[PATH_MAX + 1];
    int n = snprintf(line, sizeof line, "%s\n", path);
    if (fd >= 0) { (void)!REAL(write)(fd, line, n < (int)sizeof line ? n : (int)sizeof line - 1); REAL(close)(fd); }
  }
  errno = how == QUOTA ? EDQUOT : how == READONLY ? EROFS : ENOSPC;
  return 1;
}

static const char *at(int dir, const char *path, char *to) {
  char link[64];
  if (!path || path[0] == '/' || dir == AT_FDCWD) return path;
  snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
  ssize_t n = readlink(link, to, PATH_MAX - 1);
  if (n < 0) return path;
  snprintf(to + n, PATH_MAX - n, "/%s", path);
  return to;
}

static const char *of(int fd, char *to) {
  char link[64];
  if (!on) return NULL;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, to, PATH_MAX - 1);
  to[n < 0 ? 0 : n] = 0;
  return to;
}

static int opens(const char *path, int flags) {
  if (!on || !(flags & (O_WRONLY | O_RDWR | O_CREAT))) return 0;
  if ((flags & O_CREAT) && access(path, F_OK) != 0) return refused(path, CREATES);
  return how == READONLY && refused(path, GROWS);
}

#define OPEN(name, head, call, full)                                                                                                  \
  int name head {                                                                                                                     \
    mode_t mode = 0;                                                                                                                  \
    char buffer[PATH_MAX];                                                                                                            \
    (void)buffer;                                                                                                                     \
    if (flags & (O_CREAT | __O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }          \
    return opens(full, flags) ? -1 : REAL(name) call;                                                                                 \
  }
OPEN(open, (const char *path, int flags, ...), (path, flags, mode), path)
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), path)
OPEN(openat, (int dir, const char *path, int flags, ...), (dir, path, flags, mode), at(dir, path, buffer))
OPEN(openat64, (int dir, const char *path, int flags, ...), (dir, path, flags, mode), at(dir, path, buffer))

#define WRITES(type, name, head, call)                                                                                                \
  type name head {                                                                                                                    \
    char buffer[PATH_MAX];                                                                                                            \
    return refused(of(fd, buffer), GROWS) ? -1 : REAL(name) call;                                                                     \
  }
WRITES(ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n))
WRITES(ssize_t, pwrite64, (int fd, const void *from, size_t n, off64_t where_to), (fd, from, n, where_to))
WRITES(ssize_t, pwrite, (int fd, const void *from, size_t n, off_t where_to), (fd, from, n, where_to))
WRITES(ssize_t, writev, (int fd, const struct iovec *from, int n), (fd, from, n))
WRITES(int, ftruncate64, (int fd, off64_t size), (fd, size))
WRITES(int, ftruncate, (int fd, off_t size), (fd, size))
WRITES(ssize_t, sendfile64, (int fd, int from, off64_t *offset, size_t n), (fd, from, offset, n))
WRITES(ssize_t, sendfile, (int fd, int from, off_t *offset, size_t n), (fd, from, offset, n))
ssize_t copy_file_range(int from, off64_t *a, int fd, off64_t *b, size_t n, unsigned flags) {
  char buffer[PATH_MAX];
  return refused(of(fd, buffer), GROWS) ? -1 : REAL(copy_file_range)(from, a, fd, b, n, flags);
}

#define NAMES(name, head, call, path, what)                                                                                           \
  int name head {                                                                                                                     \
    char buffer[PATH_MAX];                                                                                                            \
    (void)buffer;                                                                                                                     \
    return refused(path, what) ? -1 : REAL(name) call;                                                                                \
  }
NAMES(mkdir, (const char *a, mode_t mode), (a, mode), a, CREATES)
NAMES(mkdirat, (int d, const char *a, mode_t mode), (d, a, mode), at(d, a, buffer), CREATES)
NAMES(symlink, (const char *to, const char *a), (to, a), a, CREATES)
NAMES(symlinkat, (const char *to, int d, const char *a), (to, d, a), at(d, a, buffer), CREATES)
NAMES(link, (const char *a, const char *b), (a, b), b, GROWS)
NAMES(linkat, (int d, const char *a, int e, const char *b, int flags), (d, a, e, b, flags), at(e, b, buffer), GROWS)
NAMES(rename, (const char *a, const char *b), (a, b), b, GROWS)
NAMES(renameat, (int d, const char *a, int e, const char *b), (d, a, e, b), at(e, b, buffer), GROWS)
NAMES(renameat2, (int d, const char *a, int e, const char *b, unsigned flags), (d, a, e, b, flags), at(e, b, buffer), GROWS)
NAMES(unlink, (const char *a), (a), a, REMOVES)
NAMES(unlinkat, (int d, const char *a, int flags), (d, a, flags), at(d, a, buffer), REMOVES)
NAMES(rmdir, (const char *a), (a), a, REMOVES)
