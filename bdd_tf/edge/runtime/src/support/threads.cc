#include "support/threads.h"

#if !defined(__wasm__)

#include <sched.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bdd {
namespace {

// Polls before a worker sleeps: about the time between two operators of a network.
constexpr int kSpins = 4000;

inline void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ __volatile__("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) : wanted_((threads > kMaxThreads ? kMaxThreads : threads) - 1) {
  StartWorkers();
  wanted_ = workers_;
  owner_.store(getpid());
}

void ThreadPool::StartWorkers() {
  workers_ = 0;
  for (int i = 0; i < wanted_; ++i) {
    arguments_[i] = {this, i + 1, generation_.load()};
    if (pthread_create(&handles_[i], nullptr, &Main, &arguments_[i]) != 0) break;
    ++workers_;
  }
}

// After fork(), the child has the pool's memory but none of its threads, and a mutex may be locked by one of them.
void ThreadPool::ReviveAfterFork() {
  const int self = getpid();
  for (int owner = owner_.load(); owner != self; owner = owner_.load()) {
    if (owner == -self) {  // another thread of this process does it
      sched_yield();
    } else if (owner_.compare_exchange_strong(owner, -self)) {
      run_ = PTHREAD_MUTEX_INITIALIZER;
      mutex_ = PTHREAD_MUTEX_INITIALIZER;
      wake_ = PTHREAD_COND_INITIALIZER;
      StartWorkers();
      owner_.store(self);
    }
  }
}

ThreadPool::~ThreadPool() {
  if (owner_.load() != getpid()) return;  // a copy in a child: its threads are the parent's
  pthread_mutex_lock(&mutex_);
  stop_ = true;
  generation_.fetch_add(1, std::memory_order_release);
  pthread_cond_broadcast(&wake_);
  pthread_mutex_unlock(&mutex_);
  for (int i = 0; i < workers_; ++i) pthread_join(handles_[i], nullptr);
}

void ThreadPool::Run(int64_t items, Task task, void* argument) {
  if (wanted_ > 0) ReviveAfterFork();
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
  uint32_t seen = worker.generation;
  for (;;) {
    // A generation's task is written before its number is released, so a worker that reads the number needs no lock.
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

#endif
