// Aligned buffers whose allocation can fail without an exception.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace bdd {

// What one buffer may hold at most; larger sizes come from damaged models.
constexpr int64_t kMaxBytes = int64_t{1} << 31;

// a * b, or -1 where the product exceeds kMaxBytes or an operand is negative.
inline int64_t Times(int64_t a, int64_t b) {
  if (a < 0 || b < 0) return -1;
  if (a != 0 && b > kMaxBytes / a) return -1;
  return a * b;
}

// A zeroed array of T, aligned to cache lines. T is trivial.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept { Swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Swap(other);
    return *this;
  }

  // Makes room for `count` zeros; keeps the memory where it suffices. False where there is none.
  bool Reset(int64_t count) {
    const int64_t bytes = Times(count, static_cast<int64_t>(sizeof(T)));
    if (bytes < 0) return false;
    if (count > capacity_) {
      std::free(data_);
      data_ = nullptr;
      capacity_ = 0;
      void* memory = nullptr;
      if (posix_memalign(&memory, 64, static_cast<size_t>(bytes)) != 0) return false;
      data_ = static_cast<T*>(memory);
      capacity_ = count;
    }
    size_ = count;
    if (bytes > 0) std::memset(static_cast<void*>(data_), 0, static_cast<size_t>(bytes));
    return true;
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
