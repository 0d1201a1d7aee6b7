// Stands between a program and the C library (LD_PRELOAD): watches the file-system calls below one folder, and can
// journal them, or at the n-th call of chosen kinds kill the process, let the call fail, shorten it, or cut the power.
// cc -O2 -shared -fPIC -o shim.so shim.c -ldl -lpthread
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

// As in watch.py.
enum { WRITE = 1, FLUSH = 2, RENAME = 4, OPEN = 8, REMOVE = 16, MAKE_FOLDER = 32, READ = 64, RESIZE = 128 };
enum { NOTHING, KILL_BEFORE, KILL_WITHIN, FAIL, SHORTEN, POWER_OFF_BEFORE, POWER_OFF_WITHIN };
#define GOING_DOWN 0x8004587dUL

static char folder[PATH_MAX], part[256];
static size_t folder_length;
static int kinds, action, error_number, power_fd = -1, power_flags, journal_fd = -1;
static long first_call, last_call;
static volatile long n_seen;
static pthread_mutex_t journal_lock = PTHREAD_MUTEX_INITIALIZER;

void chaos_watch(const char *path, int of_kinds, int what, int error, long first, long last, const char *only) {
  snprintf(folder, sizeof folder, "%s", path);
  snprintf(part, sizeof part, "%s", only);
  folder_length = strlen(folder);
  kinds = of_kinds, action = what, error_number = error, first_call = first, last_call = last, n_seen = 0;
}
void chaos_power(int fd, int flags) { power_fd = fd, power_flags = flags; }
void chaos_journal(const char *path) {
  journal_fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}
long chaos_seen(void) { return n_seen; }

// Processes that the watched one starts are told by the environment: FOLDER|KINDS|ACTION|ERROR|FIRST|LAST|PART
__attribute__((constructor)) static void begin(void) {
  const char *plan = getenv("CHAOS_WATCH");
  char path[PATH_MAX], only[256] = "";
  int of_kinds, what, error;
  long first, last;
  if (plan && sscanf(plan, "%4095[^|]|%d|%d|%d|%ld|%ld|%255[^|]", path, &of_kinds, &what, &error, &first, &last, only) >= 6)
    chaos_watch(path, of_kinds, what, error, first, last, only);
}

// ---------------------------------------------------------------- which path a call is about

static void path_of_fd(int fd, char *out) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, out, PATH_MAX - 1);
  out[n > 0 ? n : 0] = 0;
}
static void path_of(int at, const char *name, char *out) {
  char base[PATH_MAX];
  if (name[0] == '/') {
    snprintf(out, PATH_MAX, "%s", name);
    return;
  }
  if (at == AT_FDCWD) {
    if (syscall(SYS_getcwd, base, sizeof base) <= 0) base[0] = 0;
  } else path_of_fd(at, base);
  snprintf(out, PATH_MAX, "%.2000s/%.2000s", base, name);
}
static int is_below(const char *path) {
  return folder_length && !strncmp(path, folder, folder_length) && (path[folder_length] == '/' || !path[folder_length]);
}
static int fd_is_below(int fd, char *path) {
  if (!folder_length || fd == journal_fd) return 0;
  path_of_fd(fd, path);
  return is_below(path);
}

// ---------------------------------------------------------------- what is done to a call

static void end(void) {
  syscall(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}
static void power_off(void) {
  ioctl(power_fd, GOING_DOWN, &power_flags);
  end();
}
// PROCEED, or the error with which the call fails; may never return. `within` is set to what to do inside of the call.
enum { PROCEED = -1 };
static int meddle(int kind, const char *path, int *within) {
  *within = NOTHING;
  if (!(kinds & kind) || !action || (part[0] && !strstr(path, part))) return PROCEED;
  long now = __sync_add_and_fetch(&n_seen, 1);
  if (now < first_call || now > last_call) return PROCEED;
  switch (action) {
    case KILL_BEFORE: end();
    case POWER_OFF_BEFORE: power_off();
    case FAIL: return error_number;
    default: *within = action; return PROCEED;
  }
}
static void finish(int within) {
  if (within == KILL_WITHIN) end();
  if (within == POWER_OFF_WITHIN) power_off();
}

// ---------------------------------------------------------------- the journal: a line for each call, then what was written

static int status_at(int at, const char *name, struct stat *status) {
  return (int)syscall(SYS_newfstatat, at, name, status, AT_SYMLINK_NOFOLLOW);
}
static long parent_of(const char *path) {
  char up[PATH_MAX];
  struct stat status;
  snprintf(up, sizeof up, "%s", path);
  char *slash = strrchr(up, '/');
  if (!slash) return 0;
  *slash = 0;
  return status_at(AT_FDCWD, up, &status) ? 0 : (long)status.st_ino;
}
static const char *last_of(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}
static void note(char kind, long inode, long parent, long other, long offset, long length, long long time, const char *path,
                 const char *to, const void *data) {
  char line[3 * PATH_MAX];
  if (journal_fd < 0) return;
  int n = snprintf(line, sizeof line, "%c\t%ld\t%ld\t%ld\t%ld\t%ld\t%lld\t%s\t%s\n", kind, inode, parent, other, offset,
                   length, time, last_of(path), to ? last_of(to) : "");
  pthread_mutex_lock(&journal_lock);
  syscall(SYS_write, journal_fd, line, (size_t)n);
  for (long done = 0; data && done < length;) {
    ssize_t wrote = syscall(SYS_write, journal_fd, (const char *)data + done, (size_t)(length - done));
    if (wrote <= 0) break;
    done += wrote;
  }
  pthread_mutex_unlock(&journal_lock);
}
static void note_write(int fd, const void *data, long offset, long length, const char *path) {
  struct stat status;
  if (journal_fd < 0 || syscall(SYS_fstat, fd, &status)) return;
  long long time = status.st_mtim.tv_sec * 1000000000LL + status.st_mtim.tv_nsec;
  note('W', (long)status.st_ino, 0, 0, offset, length, time, path, 0, data);
}
static void note_name(char kind, const char *path, long inode) {
  if (journal_fd >= 0) note(kind, inode, parent_of(path), 0, 0, 0, 0, path, 0, 0);
}

// ---------------------------------------------------------------- the calls

#define REFUSE(code) do { errno = (code); return -1; } while (0)
#define MEDDLE(kind, path) int within, refused = meddle(kind, path, &within); if (refused != PROCEED) REFUSE(refused)

static size_t shortened(size_t n, int within) { return within != NOTHING && n > 1 ? n / 2 : n; }

static ssize_t write_at(int fd, const void *data, size_t n, off_t offset, int has_offset) {
  char path[PATH_MAX];
  if (!fd_is_below(fd, path)) return has_offset ? syscall(SYS_pwrite64, fd, data, n, offset) : syscall(SYS_write, fd, data, n);
  MEDDLE(WRITE, path);
  if (!has_offset) {
    int flags = (int)syscall(SYS_fcntl, fd, F_GETFL);
    struct stat status;
    offset = flags & O_APPEND && !syscall(SYS_fstat, fd, &status) ? status.st_size : syscall(SYS_lseek, fd, 0, SEEK_CUR);
  }
  n = shortened(n, within);
  ssize_t wrote = has_offset ? syscall(SYS_pwrite64, fd, data, n, offset) : syscall(SYS_write, fd, data, n);
  if (wrote > 0) note_write(fd, data, offset, wrote, path);
  finish(within);
  return wrote;
}
ssize_t write(int fd, const void *data, size_t n) { return write_at(fd, data, n, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t n, off_t offset) { return write_at(fd, data, n, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t offset) { return write_at(fd, data, n, offset, 1); }
ssize_t writev(int fd, const struct iovec *parts, int n_parts) {
  char path[PATH_MAX];
  if (!fd_is_below(fd, path)) return syscall(SYS_writev, fd, parts, n_parts);
  ssize_t total = 0;
  for (int k = 0; k < n_parts; k++) {
    if (!parts[k].iov_len) continue;
    ssize_t wrote = write_at(fd, parts[k].iov_base, parts[k].iov_len, 0, 0);
    if (wrote < 0) return total ? total : wrote;
    total += wrote;
    if ((size_t)wrote < parts[k].iov_len) break;
  }
  return total;
}
// Whoever copies by these falls back to read and write.
ssize_t sendfile(int out, int in, off_t *offset, size_t n) {
  char path[PATH_MAX];
  if (fd_is_below(out, path)) REFUSE(EINVAL);
  return syscall(SYS_sendfile, out, in, offset, n);
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t n) { return sendfile(out, in, offset, n); }
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t n, unsigned flags) {
  char path[PATH_MAX];
  if (fd_is_below(out, path)) REFUSE(EXDEV);
  return syscall(SYS_copy_file_range, in, from, out, to, n, flags);
}

ssize_t read(int fd, void *data, size_t n) {
  char path[PATH_MAX];
  if (kinds & READ && fd_is_below(fd, path)) {
    MEDDLE(READ, path);
  }
  return syscall(SYS_read, fd, data, n);
}
ssize_t pread(int fd, void *data, size_t n, off_t offset) {
  char path[PATH_MAX];
  if (kinds & READ && fd_is_below(fd, path)) {
    MEDDLE(READ, path);
  }
  return syscall(SYS_pread64, fd, data, n, offset);
}
ssize_t pread64(int fd, void *data, size_t n, off64_t offset) { return pread(fd, data, n, offset); }

static int flush(int fd, long call) {
  char path[PATH_MAX];
  if (!fd_is_below(fd, path)) return (int)syscall(call, fd);
  MEDDLE(FLUSH, path);
  int failed = (int)syscall(call, fd);
  struct stat status;
  if (!failed && journal_fd >= 0 && !syscall(SYS_fstat, fd, &status))
    note(S_ISDIR(status.st_mode) ? 'D' : 'F', (long)status.st_ino, 0, 0, 0, 0, 0, path, 0, 0);
  finish(within);
  return failed;
}
int fsync(int fd) { return flush(fd, SYS_fsync); }
int fdatasync(int fd) { return flush(fd, SYS_fdatasync); }
int ftruncate(int fd, off_t size) {
  char path[PATH_MAX];
  if (!fd_is_below(fd, path)) return (int)syscall(SYS_ftruncate, fd, size);
  MEDDLE(RESIZE, path);
  int failed = (int)syscall(SYS_ftruncate, fd, size);
  struct stat status;
  if (!failed && journal_fd >= 0 && !syscall(SYS_fstat, fd, &status))
    note('S', (long)status.st_ino, 0, 0, size, 0, status.st_mtim.tv_sec * 1000000000LL + status.st_mtim.tv_nsec, path, 0, 0);
  finish(within);
  return failed;
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

static int open_at(int at, const char *name, int flags, mode_t mode) {
  char path[PATH_MAX];
  struct stat before;
  if (!folder_length || !(flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR))) return (int)syscall(SYS_openat, at, name, flags, mode);
  path_of(at, name, path);
  if (!is_below(path)) return (int)syscall(SYS_openat, at, name, flags, mode);
  MEDDLE(OPEN, path);
  int was_there = !status_at(at, name, &before);
  int fd = (int)syscall(SYS_openat, at, name, flags, mode);
  struct stat status;
  if (fd >= 0 && journal_fd >= 0 && !syscall(SYS_fstat, fd, &status)) {
    if (!was_there) note_name('C', path, (long)status.st_ino);
    else if (flags & O_TRUNC) note('S', (long)status.st_ino, 0, 0, 0, 0, 0, path, 0, 0);
  }
  finish(within);
  return fd;
}
static mode_t mode_of(int flags, va_list list) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0; }
#define WITH_MODE mode_t mode; va_list list; va_start(list, flags); mode = mode_of(flags, list); va_end(list)
int open(const char *name, int flags, ...) { WITH_MODE; return open_at(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { WITH_MODE; return open_at(AT_FDCWD, name, flags | O_LARGEFILE, mode); }
int openat(int at, const char *name, int flags, ...) { WITH_MODE; return open_at(at, name, flags, mode); }
int openat64(int at, const char *name, int flags, ...) { WITH_MODE; return open_at(at, name, flags | O_LARGEFILE, mode); }

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
  char path[PATH_MAX], other[PATH_MAX];
  struct stat status;
  if (!folder_length) return (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
  path_of(from_at, from, path), path_of(to_at, to, other);
  if (!is_below(path) && !is_below(other)) return (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
  MEDDLE(RENAME, other);
  long inode = status_at(from_at, from, &status) ? 0 : (long)status.st_ino;
  int failed = (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
  if (!failed && journal_fd >= 0) note('R', inode, parent_of(path), parent_of(other), 0, 0, 0, path, other, 0);
  finish(within);
  return failed;
}
int renameat(int from_at, const char *from, int to_at, const char *to) { return renameat2(from_at, from, to_at, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int at, const char *name, int flags) {
  char path[PATH_MAX];
  struct stat status;
  if (!folder_length) return (int)syscall(SYS_unlinkat, at, name, flags);
  path_of(at, name, path);
  if (!is_below(path)) return (int)syscall(SYS_unlinkat, at, name, flags);
  MEDDLE(REMOVE, path);
  long inode = status_at(at, name, &status) ? 0 : (long)status.st_ino;
  int failed = (int)syscall(SYS_unlinkat, at, name, flags);
  if (!failed) note_name('U', path, inode);
  finish(within);
  return failed;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int at, const char *name, mode_t mode) {
  char path[PATH_MAX];
  struct stat status;
  if (!folder_length) return (int)syscall(SYS_mkdirat, at, name, mode);
  path_of(at, name, path);
  if (!is_below(path)) return (int)syscall(SYS_mkdirat, at, name, mode);
  MEDDLE(MAKE_FOLDER, path);
  int failed = (int)syscall(SYS_mkdirat, at, name, mode);
  if (!failed && !status_at(at, name, &status)) note_name('M', path, (long)status.st_ino);
  finish(within);
  return failed;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }
