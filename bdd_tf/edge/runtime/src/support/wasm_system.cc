// WASI's system calls, answered inside the module: it then imports nothing, and runs wherever WebAssembly does. The C
// library reaches them only to open files, which there are none of, and to print a message before it aborts.
#if defined(__wasm__)

#include <cstdint>

namespace {

constexpr int32_t kBadDescriptor = 8;  // WASI's error code EBADF

}  // namespace

// The names under which wasi-libc imports them.
extern "C" {

int32_t __imported_wasi_snapshot_preview1_fd_close(int32_t);
int32_t __imported_wasi_snapshot_preview1_fd_fdstat_get(int32_t, int32_t);
int32_t __imported_wasi_snapshot_preview1_fd_fdstat_set_flags(int32_t, int32_t);
int32_t __imported_wasi_snapshot_preview1_fd_prestat_dir_name(int32_t, int32_t, int32_t);
int32_t __imported_wasi_snapshot_preview1_fd_prestat_get(int32_t, int32_t);
int32_t __imported_wasi_snapshot_preview1_fd_read(int32_t, int32_t, int32_t, int32_t);
int32_t __imported_wasi_snapshot_preview1_fd_seek(int32_t, int64_t, int32_t, int32_t);
int32_t __imported_wasi_snapshot_preview1_fd_write(int32_t, int32_t, int32_t, int32_t);
int32_t __imported_wasi_snapshot_preview1_path_open(int32_t, int32_t, int32_t, int32_t, int32_t, int64_t, int64_t,
                                                    int32_t, int32_t);
[[noreturn]] void __imported_wasi_snapshot_preview1_proc_exit(int32_t);

int32_t __imported_wasi_snapshot_preview1_fd_close(int32_t) { return kBadDescriptor; }
int32_t __imported_wasi_snapshot_preview1_fd_fdstat_get(int32_t, int32_t) { return kBadDescriptor; }
int32_t __imported_wasi_snapshot_preview1_fd_fdstat_set_flags(int32_t, int32_t) { return kBadDescriptor; }
int32_t __imported_wasi_snapshot_preview1_fd_prestat_dir_name(int32_t, int32_t, int32_t) { return kBadDescriptor; }
int32_t __imported_wasi_snapshot_preview1_fd_prestat_get(int32_t, int32_t) { return kBadDescriptor; }
int32_t __imported_wasi_snapshot_preview1_fd_read(int32_t, int32_t, int32_t, int32_t) { return kBadDescriptor; }
int32_t __imported_wasi_snapshot_preview1_fd_seek(int32_t, int64_t, int32_t, int32_t) { return kBadDescriptor; }
int32_t __imported_wasi_snapshot_preview1_fd_write(int32_t, int32_t, int32_t, int32_t) { return kBadDescriptor; }
int32_t __imported_wasi_snapshot_preview1_path_open(int32_t, int32_t, int32_t, int32_t, int32_t, int64_t, int64_t,
                                                    int32_t, int32_t) {
  return kBadDescriptor;
}
void __imported_wasi_snapshot_preview1_proc_exit(int32_t) { __builtin_trap(); }

}  // extern "C"

#endif
