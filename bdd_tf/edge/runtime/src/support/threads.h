// A pool of threads that run the items of one loop at a time. Each thread takes the next item from an atomic counter.
// Workers spin for a short time after a loop, because the next operator of a network usually follows at once, and then
// sleep. WebAssembly has no threads here: the pool is the caller alone.
#pragma once

#if !defined(__wasm__)
#include <pthread.h>
#endif

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace bdd {

class ThreadPool {
 public:
  using Task = void (*)(void* argument, int64_t item, int worker);

  static constexpr int kMaxThreads = 64;

#if defined(__wasm__)
  explicit ThreadPool(int) {}
  int threads() const { return 1; }
  void Run(int64_t items, Task task, void* argument) {
    for (int64_t i = 0; i < items; ++i) task(argument, i, 0);
  }
#else
  // `threads` includes the caller. The pool is smaller if the system refuses to create a thread.
  explicit ThreadPool(int threads);
  ~ThreadPool();

  int threads() const { return workers_ + 1; }

  // Calls task(argument, i, worker) for each i in [0, items) and returns when all items are done. The caller works too,
  // as worker 0. Concurrent calls are serialized.
  void Run(int64_t items, Task task, void* argument);
#endif
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Calls f(i) for each i in [0, items).
  template <typename F>
  void ForEach(int64_t items, const F& f) {
    const void* call = &f;
    Run(
        items, [](void* argument, int64_t item, int) { (**static_cast<const F* const*>(argument))(item); },
        static_cast<void*>(&call));
  }

#if !defined(__wasm__)
 private:
  struct Worker {
    ThreadPool* pool;
    int index;
    uint32_t generation;  // of the last loop before it started
  };

  static void* Main(void* worker);
  void Work(int worker);
  void StartWorkers();
  void ReviveAfterFork();

  int wanted_;                 // workers; after construction at most as many as there were, as workspaces are theirs
  int workers_ = 0;            // that the system created
  std::atomic<int> owner_{0};  // process whose threads the workers are; negative while it starts them
  pthread_t handles_[kMaxThreads];
  Worker arguments_[kMaxThreads];
  pthread_mutex_t run_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t wake_ = PTHREAD_COND_INITIALIZER;
  Task task_ = nullptr;
  void* argument_ = nullptr;
  int64_t items_ = 0;
  bool stop_ = false;
  // On separate cache lines, because all threads write them.
  alignas(64) std::atomic<uint32_t> generation_{0};
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<int> busy_{0};
#endif
};

}  // namespace bdd
