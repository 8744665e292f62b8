#include "threads.h"

#include <sched.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bdd {
namespace {

// How long a worker looks for work before it sleeps: about the pause between two binary operators of a network.
constexpr int kSpins = 4000;

inline void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ __volatile__("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  if (threads > kMaxThreads) threads = kMaxThreads;
  for (int i = 0; i + 1 < threads; ++i) {
    arguments_[i] = {this, i + 1};
    if (pthread_create(&handles_[i], nullptr, &Main, &arguments_[i]) != 0) break;
    ++workers_;
  }
}

ThreadPool::~ThreadPool() {
  pthread_mutex_lock(&mutex_);
  stop_ = true;
  generation_.fetch_add(1, std::memory_order_release);
  pthread_cond_broadcast(&wake_);
  pthread_mutex_unlock(&mutex_);
  for (int i = 0; i < workers_; ++i) pthread_join(handles_[i], nullptr);
}

void ThreadPool::Run(int64_t items, Task task, void* argument) {
  if (workers_ == 0 || items <= 1) {
    for (int64_t i = 0; i < items; ++i) task(argument, i, 0);
    return;
  }
  pthread_mutex_lock(&run_);
  pthread_mutex_lock(&mutex_);
  task_ = task;
  argument_ = argument;
  items_ = items;
  next_.store(0, std::memory_order_relaxed);
  busy_.store(workers_, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  pthread_cond_broadcast(&wake_);
  pthread_mutex_unlock(&mutex_);
  Work(0);
  for (int spins = 0; busy_.load(std::memory_order_acquire) != 0; ++spins) {
    spins < kSpins ? Pause() : static_cast<void>(sched_yield());
  }
  pthread_mutex_unlock(&run_);
}

void ThreadPool::Work(int worker) {
  for (;;) {
    const int64_t item = next_.fetch_add(1, std::memory_order_relaxed);
    if (item >= items_) return;
    task_(argument_, item, worker);
  }
}

void* ThreadPool::Main(void* argument) {
  const Worker worker = *static_cast<Worker*>(argument);
  ThreadPool& pool = *worker.pool;
  uint32_t seen = 0;
  for (;;) {
    // All that belongs to a generation is written before its number: who sees that needs no lock.
    uint32_t current = seen;
    for (int i = 0; i < kSpins && current == seen; ++i) {
      Pause();
      current = pool.generation_.load(std::memory_order_acquire);
    }
    if (current == seen) {
      pthread_mutex_lock(&pool.mutex_);
      while (pool.generation_.load(std::memory_order_acquire) == seen) pthread_cond_wait(&pool.wake_, &pool.mutex_);
      current = pool.generation_.load(std::memory_order_acquire);
      pthread_mutex_unlock(&pool.mutex_);
    }
    seen = current;
    if (pool.stop_) return nullptr;
    pool.Work(worker.index);
    pool.busy_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace bdd
