// Sums of signed terms by table lookup (the "method of four Russians").
//
// Both gradients of a binary convolution are sums of +-d over many terms d, where only the signs differ between
// results: for ds the signs of the weights, for dW the signs of the inputs. Four terms have 16 possible sums. Once they
// are tabulated, each result takes one load and one addition per four terms, whatever the type of d. A vector
// instruction therefore does four multiply-adds per lane, with floats as exactly as with multiplications.
#pragma once

#include <cstdint>
#include <cstring>

namespace bdd {

constexpr int kGroup = 4;        // terms of a table
constexpr int kEntries = 16;     // sign patterns of four terms; bit k of an entry's number: term k is added
constexpr int kEntryBytes = 64;  // at most: 16 floats or 32 int16
constexpr int kIndexShift = 3;   // an index byte is the entry's number shifted: addressing modes scale by 8 at most

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#else
constexpr int kVectorBytes = 32;
#endif

// kCount values of type T as one or two SIMD vectors.
template <typename T, int kCount>
struct Entry {
  static constexpr int kBytes = kCount * static_cast<int>(sizeof(T));
  static constexpr int kSize = kBytes < kVectorBytes ? kBytes : kVectorBytes;
  static constexpr int kVectors = kBytes / kSize;
  static constexpr int kTableBytes = kEntries * kBytes;
  static_assert(kBytes == kEntryBytes || kBytes == kEntryBytes / 2, "index bytes scale to these sizes");
  typedef T Vector __attribute__((vector_size(kSize)));

  static Entry Load(const void* from) {
    Entry entry;
    std::memcpy(entry.v, from, sizeof entry.v);
    return entry;
  }
  static Entry Zero() {
    Entry entry;
    for (int i = 0; i < kVectors; ++i) entry.v[i] = Vector{};
    return entry;
  }
  void Store(void* to) const { std::memcpy(to, v, sizeof v); }
  Entry operator+(const Entry& other) const {
    Entry sum;
    for (int i = 0; i < kVectors; ++i) sum.v[i] = v[i] + other.v[i];
    return sum;
  }
  Entry operator-(const Entry& other) const {
    Entry difference;
    for (int i = 0; i < kVectors; ++i) difference.v[i] = v[i] - other.v[i];
    return difference;
  }
  // Adds the entry of a table that an index byte selects.
  void Add(const char* table, uint8_t index) {
    const char* from = table + static_cast<size_t>(index) * (kBytes >> kIndexShift);
    for (int i = 0; i < kVectors; ++i) {
      Vector other;
      std::memcpy(&other, from + i * kSize, sizeof other);
      v[i] += other;
    }
  }

  Vector v[kVectors];
};

// table[e] = sum over k of term k, negated where bit k of e is 0.
template <typename E>
inline void FillTable(const E& t0, const E& t1, const E& t2, const E& t3, char* table) {
  const E zero = E::Zero(), a = t0 + t1, b = t0 - t1, c = t2 + t3, d = t2 - t3;
  const E low[4] = {zero - a, b, zero - b, a}, high[4] = {zero - c, d, zero - d, c};
  for (int e = 0; e < kEntries; ++e) (low[e % 4] + high[e / 4]).Store(table + e * E::kBytes);
}

}  // namespace bdd
