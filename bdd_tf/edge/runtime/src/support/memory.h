// Arrays aligned to cache lines. The library is compiled without exceptions, so allocation reports failure by its
// return value. Sizes are computed with an upper bound, because they may come from damaged models.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#if defined(_WIN32)
#include <malloc.h>
#endif

namespace bdd {

// Upper bound of a buffer's size in bytes, and of what a file may ask for when it is opened.
constexpr int64_t kMaxBytes = int64_t{1} << 31;

// a * b; -1 if the product exceeds kMaxBytes or an operand is negative.
inline int64_t Times(int64_t a, int64_t b) {
  if (a < 0 || b < 0) return -1;
  if (a != 0 && b > kMaxBytes / a) return -1;
  return a * b;
}

// Memory at a multiple of 64 bytes; null if there is none.
#if defined(_WIN32)
inline void* AllocateLine(size_t bytes) { return _aligned_malloc(bytes, 64); }
inline void FreeLine(void* memory) { _aligned_free(memory); }
#else
inline void* AllocateLine(size_t bytes) {
  void* memory = nullptr;
  return posix_memalign(&memory, 64, bytes) == 0 ? memory : nullptr;
}
inline void FreeLine(void* memory) { std::free(memory); }
#endif

// Limits what all buffers together allocate on this thread while it lives: a small file may ask for many large ones.
// One inside of another has no effect.
class MemoryBudget {
 public:
  explicit MemoryBudget(int64_t bytes);
  ~MemoryBudget();
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  // Memory as of AllocateLine; null, too, if the budget is spent.
  static void* Allocate(int64_t bytes);

 private:
  const bool outermost_;
};

// A zero-initialized array of a trivial type T, aligned to 64 bytes.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { FreeLine(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept { Swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Swap(other);
    return *this;
  }

  // Resizes to `count` zeros. Keeps the memory if it is large enough. Returns false if allocation fails.
  bool Reset(int64_t count) {
    const int64_t bytes = Times(count, static_cast<int64_t>(sizeof(T)));
    if (bytes < 0) return false;
    if (count > capacity_) {
      FreeLine(data_);
      data_ = nullptr;
      capacity_ = 0;
      data_ = static_cast<T*>(MemoryBudget::Allocate(bytes));
      if (data_ == nullptr) return false;
      capacity_ = count;
    }
    size_ = count;
    Clear();
    return true;
  }

  // Sets all elements to zero.
  void Clear() {
    if (size_ > 0) std::memset(static_cast<void*>(data_), 0, static_cast<size_t>(size_) * sizeof(T));
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }

 private:
  void Swap(Buffer& other) {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

  T* data_ = nullptr;
  int64_t size_ = 0;
  int64_t capacity_ = 0;
};

}  // namespace bdd
