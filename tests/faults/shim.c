/* A file system in trouble, for one process: LD_PRELOAD=shim.so. Calls on files below SHIM_ROOT fail at random, SHIM_RATE of a
 * million of them, from SHIM_SEED on; SHIM_FAULTS says how, a comma between: eio, estale, eintr (once, the same call then works),
 * late (link and rename work and say ENOENT, unlink says ENOENT, as an answer that got lost and was asked for again), short
 * (write takes half). What was done is counted in SHIM_LOG, a letter a fault. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char root[PATH_MAX], faults[128];
static uint64_t rate, state;
static int logfd = -1;
static __thread int inside;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void begin(void) {
  const char *r = getenv("SHIM_ROOT"), *f = getenv("SHIM_FAULTS"), *n = getenv("SHIM_RATE"), *s = getenv("SHIM_SEED"), *l = getenv("SHIM_LOG");
  if (r) snprintf(root, sizeof root, "%s", r);
  if (f) snprintf(faults, sizeof faults, ",%s,", f);
  rate = n ? strtoull(n, NULL, 10) : 0;
  state = (s ? strtoull(s, NULL, 10) : 1) * 2862933555777941757ULL + (uint64_t)getpid();
  if (l) logfd = REAL(open)(l, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static uint64_t draw(void) { /* splitmix64; threads may share a step, which only changes the dice */
  uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

static int has(const char *fault) {
  char word[16];
  snprintf(word, sizeof word, ",%s,", fault);
  return strstr(faults, word) != NULL;
}

static int below(const char *path) { return root[0] && path && strncmp(path, root, strlen(root)) == 0; }

static int below_at(int dir, const char *path) {
  char link[64], at[PATH_MAX];
  if (!path || path[0] == '/' || dir == AT_FDCWD) return below(path);
  snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
  ssize_t n = readlink(link, at, sizeof at - 1);
  if (n < 0) return 0;
  at[n] = 0;
  return below(at);
}

static int below_fd(int fd) {
  char link[64], at[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, at, sizeof at - 1);
  if (n < 0) return 0;
  at[n] = 0;
  return below(at);
}

/* Whether this call is to fail, and how: the letter of the log, 0 for not at all. kinds: what can happen to such a call. */
static char hit(const char *kinds) {
  if (!rate || inside || draw() % 1000000 >= rate) return 0;
  char can[8];
  int n = 0;
  for (const char *k = kinds; *k; k++)
    if ((*k == 'E' && has("eio")) || (*k == 'S' && has("estale")) || (*k == 'I' && has("eintr")) || (*k == 'L' && has("late")) || (*k == 'H' && has("short")))
      can[n++] = *k;
  if (!n) return 0;
  char what = can[draw() % n];
  if (logfd >= 0) { inside = 1; (void)!REAL(write)(logfd, &what, 1); inside = 0; }
  return what;
}

static int fail(char what) {
  errno = what == 'S' ? ESTALE : what == 'I' ? EINTR : what == 'L' ? ENOENT : EIO;
  return -1;
}

#define OPEN(name, head, call, here)                                                                                                  \
  int name head {                                                                                                                     \
    mode_t mode = 0;                                                                                                                  \
    if (flags & (O_CREAT | __O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }          \
    char what = (here) ? hit("ESI") : 0;                                                                                              \
    return what ? fail(what) : REAL(name) call;                                                                                       \
  }
OPEN(open, (const char *path, int flags, ...), (path, flags, mode), below(path))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode), below(path))
OPEN(openat, (int dir, const char *path, int flags, ...), (dir, path, flags, mode), below_at(dir, path))
OPEN(openat64, (int dir, const char *path, int flags, ...), (dir, path, flags, mode), below_at(dir, path))

ssize_t read(int fd, void *to, size_t n) {
  char what = below_fd(fd) ? hit("ESI") : 0;
  return what ? fail(what) : REAL(read)(fd, to, n);
}
ssize_t pread64(int fd, void *to, size_t n, off64_t at) {
  char what = below_fd(fd) ? hit("ESI") : 0;
  return what ? fail(what) : REAL(pread64)(fd, to, n, at);
}
ssize_t write(int fd, const void *from, size_t n) {
  char what = fd != logfd && below_fd(fd) ? hit(n > 1 ? "ESIH" : "ESI") : 0;
  return what == 'H' ? REAL(write)(fd, from, n / 2) : what ? fail(what) : REAL(write)(fd, from, n);
}
int fsync(int fd) {
  char what = below_fd(fd) ? hit("ESI") : 0;
  return what ? fail(what) : REAL(fsync)(fd);
}

#define TWO(name, head, call, here)                                                                                                   \
  int name head {                                                                                                                     \
    char what = (here) ? hit("ESL") : 0;                                                                                              \
    if (!what) return REAL(name) call;                                                                                                \
    if (what == 'L' && REAL(name) call) return -1;                                                                                    \
    return fail(what);                                                                                                                \
  }
TWO(link, (const char *a, const char *b), (a, b), below(a))
TWO(linkat, (int d, const char *a, int e, const char *b, int flags), (d, a, e, b, flags), below_at(d, a))
TWO(rename, (const char *a, const char *b), (a, b), below(a))
TWO(renameat, (int d, const char *a, int e, const char *b), (d, a, e, b), below_at(d, a))
TWO(renameat2, (int d, const char *a, int e, const char *b, unsigned flags), (d, a, e, b, flags), below_at(d, a))
TWO(unlink, (const char *a), (a), below(a))
TWO(unlinkat, (int d, const char *a, int flags), (d, a, flags), below_at(d, a))
TWO(mkdir, (const char *a, mode_t mode), (a, mode), below(a))
