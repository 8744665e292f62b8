// Registers of floats, as wide as the machine that this is compiled for has them.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace bdd {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif
constexpr int kPanel = 16;  // channels that lie side by side in what the products read
constexpr int kVectors = kPanel / kLanes;

typedef float Floats __attribute__((vector_size(kLanes * 4)));

inline Floats Load(const float* p) {
  Floats v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void Store(float* p, Floats v) { std::memcpy(p, &v, sizeof v); }
inline Floats Splat(float x) { return Floats{} + x; }
inline void Add(float* p, Floats v) { Store(p, Load(p) + v); }

// Binary convolutions' results.
inline Floats Load(const int16_t* p) {
  typedef int16_t Shorts __attribute__((vector_size(kLanes * 2)));
  Shorts v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, Floats);
}

// x where positive, else slope x.
inline Floats LeakyMax(Floats x, Floats slope) { return x > 0.0f ? x : slope * x; }

// Zeroed memory, aligned to cache lines.
template <typename T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

  void Resize(int64_t count) {
    std::free(data_);
    data_ = nullptr;
    size_ = count;
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 127) / 64 * 64;
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, bytes) != 0) std::abort();
    std::memset(memory, 0, bytes);
    data_ = static_cast<T*>(memory);
  }
  void Clear() { std::memset(data_, 0, static_cast<size_t>(size_) * sizeof(T)); }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }
  int64_t size() const { return size_; }

 private:
  T* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace bdd
