/* A machine whose clock is wrong, for one process: LD_PRELOAD=clock.so, CLOCK_OFF seconds ahead. Clocks that only count stay right. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static time_t off(void) {
  const char *seconds = getenv("CLOCK_OFF");
  return seconds ? strtol(seconds, NULL, 10) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int code = REAL(clock_gettime)(clock, now);
  if (!code && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += off();
  return code;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  int code = REAL(gettimeofday)(now, zone);
  if (!code) now->tv_sec += off();
  return code;
}

time_t time(time_t *where) {
  time_t now = REAL(time)(NULL) + off();
  if (where) *where = now;
  return now;
}
