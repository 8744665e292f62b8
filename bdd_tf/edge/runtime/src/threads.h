// A few threads that share one loop at a time.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace bdd {

class ThreadPool {
 public:
  using Task = void (*)(void* argument, int64_t item, int worker);

  static constexpr int kMaxThreads = 64;

  // `threads` counts the caller. Where the system gives fewer, the pool has fewer.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return workers_ + 1; }

  // Calls f(i) for each i in [0, items).
  template <typename F>
  void ForEach(int64_t items, const F& f) {
    const void* call = &f;
    Run(
        items, [](void* argument, int64_t item, int) { (**static_cast<const F* const*>(argument))(item); },
        static_cast<void*>(&call));
  }

  // Calls task(argument, i, worker) for each i in [0, items), the caller taking part; returns when all are done.
  // Calls from several threads take turns.
  void Run(int64_t items, Task task, void* argument);

 private:
  struct Worker {
    ThreadPool* pool;
    int index;
  };

  static void* Main(void* worker);
  void Work(int worker);

  int workers_ = 0;
  pthread_t handles_[kMaxThreads];
  Worker arguments_[kMaxThreads];
  pthread_mutex_t run_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t wake_ = PTHREAD_COND_INITIALIZER;
  Task task_ = nullptr;
  void* argument_ = nullptr;
  int64_t items_ = 0;
  bool stop_ = false;
  // Each on a cache line of its own: all threads hammer on them.
  alignas(64) std::atomic<uint32_t> generation_{0};
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<int> busy_{0};
};

}  // namespace bdd
