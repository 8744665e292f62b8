// Plain C++ without intrinsics: runs on every target, and is the reference that the other sets are tested against.
#define BDD_LANES 4
#define BDD_ROWS 1
#define BDD_CONVOLVE_ROWS 1
#define BDD_REGISTERS 16
#include "kernels/make_kernel_set.h"

namespace bdd {
namespace {

constexpr int kChannels = 8;

inline uint32_t Popcount(uint32_t x) {
  x -= (x >> 1) & 0x55555555u;
  x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
  x = (x + (x >> 4)) & 0x0F0F0F0Fu;
  return (x * 0x01010101u) >> 24;
}

void bgemm_b1_i32__scalar(const uint32_t* const* indirection, int count, const Taps& taps, const uint32_t* weights,
                          int32_t* popcounts, int) {
  for (int m = 0; m < count; ++m) {
    int32_t* row = popcounts + m * kChannels;
    std::memset(row, 0, kChannels * sizeof(int32_t));
    for (int64_t k = 0; k < taps.words; ++k) {
      const uint32_t x = indirection[m][taps.offsets[k]];
      for (int n = 0; n < kChannels; ++n) row[n] += static_cast<int32_t>(Popcount(x ^ weights[k * kChannels + n]));
    }
  }
}

void bitpack_f32_b1__scalar(const float* x, int64_t words, uint32_t* bits) {
  for (int64_t i = 0; i < words; ++i, x += 32) {
    uint32_t word = 0;
    for (int b = 0; b < 32; ++b) word |= static_cast<uint32_t>(x[b] < 0.0f) << b;
    bits[i] = word;
  }
}

}  // namespace

const KernelSet* ScalarKernels() {
  return MakeKernelSet<4, kChannels, bgemm_b1_i32__scalar, bitpack_f32_b1__scalar>("scalar");
}

}  // namespace bdd
