// Preloaded under a program: counts the calls that change what lies below a
// folder, and at one of them kills or stops the program, or lets it fail. Or
// keeps a log of all of them, with the bytes written.
//
//   CRASH_ROOT=DIR    calls on what is below DIR count, others do not
//   CRASH_STATE=FILE  of sizeof(struct State): what was counted
//   CRASH_AT=K        the K-th call, from 1 (0: none), and CRASH_HOW:
//     kill            the program is killed before it
//     torn            killed after it, or after half of what it writes
//     stop            the program stops (SIGSTOP) before it
//     5, 28, …        it fails with this errno
//   CRASH_ALL=1       all from the K-th on fail
//   CRASH_READS=1     reads count, too
//   CRASH_LOG=FILE    see struct Record
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

// As in crash.py.
enum Kind {
  kCreate,    // a file: path, or a folder where it has no name (O_TMPFILE)
  kWrite,     // at `offset`, with data
  kTruncate,  // to `offset` bytes
  kSync,      // a file
  kSyncDir,   // path
  kSyncAll,
  kLink,    // `inode` to path
  kRename,  // path to path2
  kUnlink,
  kMkdir,
  kRmdir,
  kRead,
  kOther,  // what the log cannot tell
  kKinds
};

struct State {
  uint32_t calls;
  uint32_t hit;  // 1 + Kind of the K-th call
  uint32_t of_kind[kKinds];
};

// Then the two paths and the data.
struct Record {
  uint32_t kind;
  uint32_t path_length, path2_length;
  uint32_t unused;
  uint64_t inode, offset, data_length;
};

static char root[PATH_MAX];
static size_t root_length;
static struct State* state;
static unsigned at;
static enum { kKill, kTorn, kStop, kFail } how;
static int error;
static int all, reads, log_fd = -1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name)                                            \
  static __typeof__(&name) real;                              \
  if (real == NULL) *(void**)&real = dlsym(RTLD_NEXT, #name); \
  if (real == NULL) abort()

static int (*RealOpen(void))(const char*, int, ...) {
  static int (*real)(const char*, int, ...);
  if (real == NULL) *(void**)&real = dlsym(RTLD_NEXT, "open");
  return real;
}

static ssize_t RawWrite(int fd, const void* from, size_t n) {
  static ssize_t (*real)(int, const void*, size_t);
  if (real == NULL) *(void**)&real = dlsym(RTLD_NEXT, "write");
  return real(fd, from, n);
}

__attribute__((constructor)) static void Start(void) {
  static struct State none;
  const char* text = getenv("CRASH_ROOT");
  state = &none;
  if (text == NULL || realpath(text, root) == NULL) return;
  if ((text = getenv("CRASH_STATE")) != NULL) {
    int fd = RealOpen()(text, O_RDWR | O_CLOEXEC);
    void* mapped = fd < 0 ? MAP_FAILED
                          : mmap(NULL, sizeof(struct State),
                                 PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) abort();
    state = mapped;
    close(fd);
  }
  if ((text = getenv("CRASH_LOG")) != NULL) {
    log_fd = RealOpen()(text, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (log_fd < 0) abort();
  }
  if ((text = getenv("CRASH_AT")) != NULL) at = (unsigned)atoi(text);
  if ((text = getenv("CRASH_HOW")) == NULL) text = "kill";
  how = !strcmp(text, "kill")   ? kKill
        : !strcmp(text, "torn") ? kTorn
        : !strcmp(text, "stop") ? kStop
                                : kFail;
  error = atoi(text);
  all = getenv("CRASH_ALL") != NULL;
  reads = getenv("CRASH_READS") != NULL;
  root_length = strlen(root);
}

static void Die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

// Where a call does something: the path below the root, "" for the root itself.
struct Place {
  char path[PATH_MAX * 2];
};

static int Below(struct Place* place) {
  if (root_length == 0 || strncmp(place->path, root, root_length) != 0 ||
      (place->path[root_length] != '/' && place->path[root_length] != 0)) {
    return 0;
  }
  const char* rest = place->path + root_length;
  while (*rest == '/') ++rest;
  memmove(place->path, rest, strlen(rest) + 1);
  size_t length = strlen(place->path);
  while (length > 0 && place->path[length - 1] == '/') --length;
  place->path[length] = 0;
  return 1;
}

static int OfFd(int fd, struct Place* place) {
  if (root_length == 0) return 0;
  char link[64];
  int saved = errno;
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, place->path, PATH_MAX - 1);
  errno = saved;
  if (length < 0) return 0;
  place->path[length] = 0;
  return Below(place);
}

static int OfPath(int dir, const char* path, struct Place* place) {
  if (root_length == 0 || path == NULL) return 0;
  int saved = errno;
  char base[PATH_MAX] = "";
  if (path[0] != '/') {
    char link[64] = "/proc/self/cwd";
    if (dir != AT_FDCWD) {
      snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
    }
    ssize_t length = readlink(link, base, sizeof(base) - 1);
    errno = saved;
    if (length < 0) return 0;
    base[length] = 0;
    while (path[0] == '.' && (path[1] == '/' || path[1] == 0)) {
      path += path[1] == 0 ? 1 : 2;
    }
  }
  snprintf(place->path, sizeof(place->path), "%s%s%s", base,
           base[0] != 0 ? "/" : "", path);
  return Below(place);
}

static uint64_t InodeOf(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

static void Log(enum Kind kind, uint64_t inode, const char* path,
                const char* path2, uint64_t offset, const void* data,
                size_t length) {
  if (log_fd < 0) return;
  struct Record record = {.kind = kind,
                          .path_length = (uint32_t)strlen(path),
                          .path2_length = (uint32_t)strlen(path2),
                          .inode = inode,
                          .offset = offset,
                          .data_length = length};
  // One write, so that a program that is killed leaves whole records.
  size_t size =
      sizeof(record) + record.path_length + record.path2_length + length;
  char* bytes = malloc(size);
  if (bytes == NULL) abort();
  char* to = bytes;
  memcpy(to, &record, sizeof(record));
  to += sizeof(record);
  memcpy(to, path, record.path_length);
  to += record.path_length;
  memcpy(to, path2, record.path2_length);
  to += record.path2_length;
  if (length > 0) memcpy(to, data, length);
  if (RawWrite(log_fd, bytes, size) != (ssize_t)size) abort();
  free(bytes);
}

enum Action { kPass, kHalfThenDie, kRefuse };

// Counts a call; the lock is held until End.
static enum Action Begin(enum Kind kind) {
  pthread_mutex_lock(&mutex);
  if (kind == kRead && !reads) return kPass;
  unsigned call = ++state->calls;
  ++state->of_kind[kind];
  if (at == 0 || call < at || (call > at && !all)) return kPass;
  if (call == at) state->hit = 1 + (uint32_t)kind;
  switch (how) {
    case kKill:
      Die();
      return kPass;
    case kTorn:
      return kHalfThenDie;
    case kStop:
      if (call == at) kill(getpid(), SIGSTOP);
      return kPass;
    case kFail:
      errno = error;
      return kRefuse;
  }
  return kPass;
}

static void End(void) { pthread_mutex_unlock(&mutex); }

// The body of a wrapper: `call` unless it is to fail; `half` is what is done of
// it before the program is killed; `log` what is remembered of it.
#define WRAPPED(kind, half, call, log) \
  enum Action action = Begin(kind);    \
  if (action == kHalfThenDie) {        \
    half;                              \
    Die();                             \
  }                                    \
  __typeof__(call) result = -1;        \
  if (action == kPass) result = call;  \
  int saved = errno;                   \
  if (result >= 0 && log_fd >= 0) {    \
    log;                               \
  }                                    \
  End();                               \
  errno = saved;                       \
  return result

// Writing.

static off_t AppendedAt(int fd) {
  struct stat status;
  if ((fcntl(fd, F_GETFL) & O_APPEND) != 0) {
    return fstat(fd, &status) == 0 ? status.st_size : 0;
  }
  return lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void* from, size_t n) {
  REAL(write);
  struct Place place;
  if (!OfFd(fd, &place)) return real(fd, from, n);
  off_t offset = AppendedAt(fd);
  WRAPPED(
      kWrite, real(fd, from, n / 2), real(fd, from, n),
      Log(kWrite, InodeOf(fd), "", "", (uint64_t)offset, from, (size_t)result));
}

ssize_t writev(int fd, const struct iovec* parts, int count) {
  REAL(writev);
  struct Place place;
  if (!OfFd(fd, &place) || count < 1) return real(fd, parts, count);
  return write(fd, parts[0].iov_base, parts[0].iov_len);  // a short write
}

#define PWRITE(name, offset_type)                                             \
  ssize_t name(int fd, const void* from, size_t n, offset_type offset) {      \
    REAL(name);                                                               \
    struct Place place;                                                       \
    if (!OfFd(fd, &place)) return real(fd, from, n, offset);                  \
    WRAPPED(kWrite, real(fd, from, n / 2, offset), real(fd, from, n, offset), \
            Log(kWrite, InodeOf(fd), "", "", (uint64_t)offset, from,          \
                (size_t)result));                                             \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define PWRITEV(name, offset_type, single)                                     \
  ssize_t name(int fd, const struct iovec* parts, int count,                   \
               offset_type offset) {                                           \
    REAL(name);                                                                \
    struct Place place;                                                        \
    if (!OfFd(fd, &place) || count < 1) return real(fd, parts, count, offset); \
    return single(fd, parts[0].iov_base, parts[0].iov_len, offset);            \
  }
PWRITEV(pwritev, off_t, pwrite)
PWRITEV(pwritev64, off64_t, pwrite64)

#define TRUNCATE(name, offset_type)                                      \
  int name(int fd, offset_type size) {                                   \
    REAL(name);                                                          \
    struct Place place;                                                  \
    if (!OfFd(fd, &place)) return real(fd, size);                        \
    WRAPPED(kTruncate, real(fd, size), real(fd, size),                   \
            Log(kTruncate, InodeOf(fd), "", "", (uint64_t)size, "", 0)); \
  }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int fallocate(int fd, int mode, off_t offset, off_t size) {
  REAL(fallocate);
  struct Place place;
  if (!OfFd(fd, &place)) return real(fd, mode, offset, size);
  WRAPPED(kOther, real(fd, mode, offset, size), real(fd, mode, offset, size),
          Log(kOther, 0, "fallocate", "", 0, "", 0));
}

ssize_t copy_file_range(int from, off64_t* from_at, int to, off64_t* to_at,
                        size_t n, unsigned flags) {
  REAL(copy_file_range);
  struct Place place;
  if (!OfFd(to, &place)) return real(from, from_at, to, to_at, n, flags);
  WRAPPED(kOther, real(from, from_at, to, to_at, n / 2, flags),
          real(from, from_at, to, to_at, n, flags),
          Log(kOther, 0, "copy_file_range", "", 0, "", 0));
}

// Syncing.

static enum Kind KindOfSync(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISDIR(status.st_mode) ? kSyncDir : kSync;
}

#define SYNC(name)                                             \
  int name(int fd) {                                           \
    REAL(name);                                                \
    struct Place place;                                        \
    if (!OfFd(fd, &place)) return real(fd);                    \
    const enum Kind kind = KindOfSync(fd);                     \
    WRAPPED(kind, real(fd), real(fd),                          \
            Log(kind, InodeOf(fd), place.path, "", 0, "", 0)); \
  }
SYNC(fsync)
SYNC(fdatasync)

int syncfs(int fd) {
  REAL(syncfs);
  struct Place place;
  if (!OfFd(fd, &place)) return real(fd);
  WRAPPED(kSyncAll, real(fd), real(fd), Log(kSyncAll, 0, "", "", 0, "", 0));
}

// Names.

static int RealLinkat(int from_dir, const char* from, int to_dir,
                      const char* to, int flags) {
  return (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
}

int linkat(int from_dir, const char* from, int to_dir, const char* to,
           int flags) {
  struct Place place;
  if (!OfPath(to_dir, to, &place)) {
    return RealLinkat(from_dir, from, to_dir, to, flags);
  }
  struct stat status = {0};
  int saved_errno = errno;
  fstatat(from_dir, from, &status,
          (flags & AT_SYMLINK_FOLLOW) != 0 ? 0 : AT_SYMLINK_NOFOLLOW);
  errno = saved_errno;
  WRAPPED(kLink, RealLinkat(from_dir, from, to_dir, to, flags),
          RealLinkat(from_dir, from, to_dir, to, flags),
          Log(kLink, status.st_ino, place.path, "", 0, "", 0));
}
int link(const char* from, const char* to) {
  return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

static int RealRename(int from_dir, const char* from, int to_dir,
                      const char* to, unsigned flags) {
  return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}

int renameat2(int from_dir, const char* from, int to_dir, const char* to,
              unsigned flags) {
  struct Place place, place2;
  if (!OfPath(to_dir, to, &place2)) {
    return RealRename(from_dir, from, to_dir, to, flags);
  }
  if (!OfPath(from_dir, from, &place)) place.path[0] = 0;
  WRAPPED(kRename, RealRename(from_dir, from, to_dir, to, flags),
          RealRename(from_dir, from, to_dir, to, flags),
          Log(kRename, 0, place.path, place2.path, flags, "", 0));
}
int renameat(int from_dir, const char* from, int to_dir, const char* to) {
  return renameat2(from_dir, from, to_dir, to, 0);
}
int rename(const char* from, const char* to) {
  return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int dir, const char* path, int flags) {
  REAL(unlinkat);
  struct Place place;
  if (!OfPath(dir, path, &place)) return real(dir, path, flags);
  enum Kind kind = (flags & AT_REMOVEDIR) != 0 ? kRmdir : kUnlink;
  WRAPPED(kind, real(dir, path, flags), real(dir, path, flags),
          Log(kind, 0, place.path, "", 0, "", 0));
}
int unlink(const char* path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char* path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int dir, const char* path, mode_t mode) {
  REAL(mkdirat);
  struct Place place;
  if (!OfPath(dir, path, &place)) return real(dir, path, mode);
  WRAPPED(kMkdir, real(dir, path, mode), real(dir, path, mode),
          Log(kMkdir, 0, place.path, "", 0, "", 0));
}
int mkdir(const char* path, mode_t mode) {
  return mkdirat(AT_FDCWD, path, mode);
}

// Opening.

static int RealOpenat(int dir, const char* path, const struct open_how* by,
                      int plain) {
  if (plain) {
    return (int)syscall(SYS_openat, dir, path, (int)by->flags, (int)by->mode);
  }
  return (int)syscall(SYS_openat2, dir, path, by, sizeof(*by));
}

static int Opened(int dir, const char* path, const struct open_how* by,
                  int plain) {
  struct Place place;
  const int flags = (int)by->flags;
  const int unnamed = (flags & O_TMPFILE) == O_TMPFILE;
  if ((!unnamed && (flags & (O_CREAT | O_TRUNC)) == 0) ||
      !OfPath(dir, path, &place)) {
    return RealOpenat(dir, path, by, plain);
  }
  int saved_errno = errno;
  const int there = !unnamed && faccessat(dir, path, F_OK, 0) == 0;
  errno = saved_errno;
  if (there && (flags & O_TRUNC) == 0) {
    return RealOpenat(dir, path, by, plain);
  }
  WRAPPED(there ? kTruncate : kCreate, RealOpenat(dir, path, by, plain),
          RealOpenat(dir, path, by, plain),
          Log(there ? kTruncate : kCreate, InodeOf(result),
              unnamed ? "" : place.path, "", 0, "", 0));
}

static int OpenedBy(int dir, const char* path, int flags, va_list more) {
  struct open_how by = {.flags = (unsigned)flags};
  if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) {
    by.mode = va_arg(more, mode_t);
  }
  return Opened(dir, path, &by, 1);
}

#define OPEN(name)                                  \
  int name(const char* path, int flags, ...) {      \
    va_list more;                                   \
    va_start(more, flags);                          \
    int fd = OpenedBy(AT_FDCWD, path, flags, more); \
    va_end(more);                                   \
    return fd;                                      \
  }
#define OPENAT(name)                                    \
  int name(int dir, const char* path, int flags, ...) { \
    va_list more;                                       \
    va_start(more, flags);                              \
    int fd = OpenedBy(dir, path, flags, more);          \
    va_end(more);                                       \
    return fd;                                          \
  }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

// Those that libc has no function for.
long syscall(long number, ...) {
  static long (*real)(long, ...);
  if (real == NULL) *(void**)&real = dlsym(RTLD_NEXT, "syscall");
  va_list more;
  va_start(more, number);
  long a[6];
  for (int i = 0; i < 6; ++i) a[i] = va_arg(more, long);
  va_end(more);
  static _Thread_local int inside;  // our own calls come here, too
  if (number == SYS_openat2 && !inside) {
    inside = 1;
    long fd =
        Opened((int)a[0], (const char*)a[1], (const struct open_how*)a[2], 0);
    inside = 0;
    return fd;
  }
  return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

// Reading.

#define READ(name, params, args)                       \
  ssize_t name params {                                \
    REAL(name);                                        \
    struct Place place;                                \
    if (!reads || !OfFd(fd, &place)) return real args; \
    WRAPPED(kRead, (void)0, real args, (void)0);       \
  }
READ(read, (int fd, void* to, size_t n), (fd, to, n))
READ(pread, (int fd, void* to, size_t n, off_t offset), (fd, to, n, offset))
READ(pread64, (int fd, void* to, size_t n, off64_t offset), (fd, to, n, offset))
