// Preloaded under the command: the FAULT_NTH-th call of FAULT_CALL fails with
// FAULT_ERRNO; with FAULT_SHORT set, reads and writes move at most that many
// bytes.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

static int Fails(const char* call) {
  static atomic_int calls;
  const char* wanted = getenv("FAULT_CALL");
  if (wanted == NULL || strcmp(wanted, call) != 0) return 0;
  if (atomic_fetch_add(&calls, 1) + 1 != atoi(getenv("FAULT_NTH"))) return 0;
  errno = atoi(getenv("FAULT_ERRNO"));
  return 1;
}

static size_t Short(size_t size) {
  const char* most = getenv("FAULT_SHORT");
  if (most == NULL || size <= (size_t)atoi(most)) return size;
  return (size_t)atoi(most);
}

// `type name(params)` calls the real one with `args` unless it is to fail.
#define FAULTY(type, name, params, args)                        \
  type name params {                                            \
    static type(*real) params;                                  \
    if (real == NULL) *(void**)&real = dlsym(RTLD_NEXT, #name); \
    if (Fails(#name)) return -1;                                \
    return real args;                                           \
  }

FAULTY(ssize_t, read, (int fd, void* to, size_t n), (fd, to, Short(n)))
FAULTY(ssize_t, pread, (int fd, void* to, size_t n, off_t at),
       (fd, to, Short(n), at))
FAULTY(ssize_t, write, (int fd, const void* from, size_t n),
       (fd, from, Short(n)))
FAULTY(int, fsync, (int fd), (fd))
FAULTY(int, syncfs, (int fd), (fd))
FAULTY(int, fchmod, (int fd, mode_t mode), (fd, mode))
FAULTY(int, futimens, (int fd, const struct timespec t[2]), (fd, t))
FAULTY(int, linkat, (int a, const char* b, int c, const char* d, int e),
       (a, b, c, d, e))
FAULTY(int, mkdirat, (int a, const char* b, mode_t c), (a, b, c))
FAULTY(int, renameat2, (int a, const char* b, int c, const char* d, unsigned e),
       (a, b, c, d, e))
