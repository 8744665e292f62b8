// post_ops_f32: elementwise operations on a tile of floats while its values stay in registers. Included once by each
// kernel file.
#pragma once

#include <type_traits>

#include "kernels/kernel_set.h"
#include "kernels/post_op_chains.h"
#include "kernels/simd.h"

namespace bdd {
namespace {

using BitpackFunction = void (*)(const float* x, int64_t words, uint32_t* bits);

// All operations for kRows pixels, starting with pixel `row`, of kVectors registers each.
template <int kRows, int kVectors, BitpackFunction kBitpack>
inline void PostOpRows(const PostOpInput& input, const PostOp* ops, int count, int64_t row) {
  Lanes v[kRows][kVectors];
  const auto each = [](const auto& f) BDD_INLINE {
    Unroll<kRows>([&](auto r) BDD_INLINE { Unroll<kVectors>([&](auto k) BDD_INLINE { f(r, k); }); });
  };
  if (input.accumulators != nullptr) {
    Unroll<kVectors>([&](auto k) BDD_INLINE {
      const Lanes multiplier = Load(input.multiplier + k * BDD_LANES), bias = Load(input.bias + k * BDD_LANES);
      const Lanes slope = Load(input.slopes + k * BDD_LANES);
      Unroll<kRows>([&](auto r) BDD_INLINE {
        const Lanes x = LoadShorts(input.accumulators + (row + r) * input.stride + k * BDD_LANES) * multiplier + bias;
        v[r][k] = PreluOf(x, slope);
      });
    });
  } else {
    each([&](auto r, auto k) BDD_INLINE { v[r][k] = Load(input.values + (row + r) * input.stride + k * BDD_LANES); });
  }
  for (const PostOp* op = ops; op != ops + count; ++op) {
    const int64_t stride = op->stride;
    const auto combine = [&](const auto& f) BDD_INLINE {
      const float* b = op->b + row * stride;
      if (stride == 0) {
        Unroll<kVectors>([&](auto k) BDD_INLINE {
          const Lanes shared = Load(b + k * BDD_LANES);
          Unroll<kRows>([&](auto r) BDD_INLINE { v[r][k] = f(v[r][k], shared); });
        });
      } else {
        each([&](auto r, auto k) BDD_INLINE { v[r][k] = f(v[r][k], Load(b + r * stride + k * BDD_LANES)); });
      }
    };
    switch (op->operation) {
      case PostOp::kAdd: combine([](Lanes x, Lanes y) BDD_INLINE { return x + y; }); break;
      case PostOp::kSubtract: combine([](Lanes x, Lanes y) BDD_INLINE { return x - y; }); break;
      case PostOp::kReverseSubtract: combine([](Lanes x, Lanes y) BDD_INLINE { return y - x; }); break;
      case PostOp::kMultiply: combine([](Lanes x, Lanes y) BDD_INLINE { return x * y; }); break;
      case PostOp::kMaximum: combine([](Lanes x, Lanes y) BDD_INLINE { return x > y ? x : y; }); break;
      case PostOp::kMinimum: combine([](Lanes x, Lanes y) BDD_INLINE { return x < y ? x : y; }); break;
      case PostOp::kPrelu: combine([](Lanes x, Lanes y) BDD_INLINE { return PreluOf(x, y); }); break;
      case PostOp::kClamp: {
        const Lanes low = op->clamp_min - Lanes{}, high = op->clamp_max - Lanes{};
        each([&](auto r, auto k) BDD_INLINE {
          const Lanes x = v[r][k] < low ? low : v[r][k];
          v[r][k] = x > high ? high : x;
        });
        break;
      }
      case PostOp::kLogistic: each([&](auto r, auto k) BDD_INLINE { v[r][k] = Logistic(v[r][k]); }); break;
      case PostOp::kSum:
        Unroll<kVectors>([&](auto k) BDD_INLINE {
          Lanes sum = Load(op->out + k * BDD_LANES);
          Unroll<kRows>([&](auto r) BDD_INLINE { sum += v[r][k]; });
          Store(op->out + k * BDD_LANES, sum);
        });
        break;
      case PostOp::kBitpack:
        Unroll<kRows>([&](auto r) BDD_INLINE {
          float buffer[kTileChannels] = {};
          Unroll<kVectors>([&](auto k) BDD_INLINE { Store(buffer + k * BDD_LANES, v[r][k]); });
          kBitpack(buffer, 1, op->bits + (row + r) * stride);
        });
        break;
      case PostOp::kStore: {
        float* out = op->out + row * stride;  // copied, because the stores could alias `op`
        each([&](auto r, auto k) BDD_INLINE { Store(out + r * stride + k * BDD_LANES, v[r][k]); });
        break;
      }
    }
  }
}

// The same, channel by channel, for the last channels of a map whose number of channels is no multiple of
// kTileChannels.
inline void PostOpPartialRow(const PostOpInput& input, const PostOp* ops, int count, int64_t row, int width) {
  float v[kTileChannels];
  for (int c = 0; c < width; ++c) {
    if (input.accumulators == nullptr) {
      v[c] = input.values[row * input.stride + c];
      continue;
    }
    const float x =
        static_cast<float>(input.accumulators[row * input.stride + c]) * input.multiplier[c] + input.bias[c];
    v[c] = PreluOf(x, input.slopes[c]);
  }
  for (const PostOp* op = ops; op != ops + count; ++op) {
    const int64_t at = row * op->stride;
    uint32_t word = 0;
    for (int c = 0; c < width; ++c) {
      const float x = v[c];
      switch (op->operation) {
        case PostOp::kAdd: v[c] = x + op->b[at + c]; break;
        case PostOp::kSubtract: v[c] = x - op->b[at + c]; break;
        case PostOp::kReverseSubtract: v[c] = op->b[at + c] - x; break;
        case PostOp::kMultiply: v[c] = x * op->b[at + c]; break;
        case PostOp::kMaximum: v[c] = x > op->b[at + c] ? x : op->b[at + c]; break;
        case PostOp::kMinimum: v[c] = x < op->b[at + c] ? x : op->b[at + c]; break;
        case PostOp::kPrelu: v[c] = PreluOf(x, op->b[at + c]); break;
        case PostOp::kClamp: v[c] = x < op->clamp_min ? op->clamp_min : x > op->clamp_max ? op->clamp_max : x; break;
        case PostOp::kLogistic: v[c] = Logistic(x - Lanes{})[0]; break;
        case PostOp::kSum: op->out[c] += x; break;
        case PostOp::kBitpack: word |= static_cast<uint32_t>(x < 0.0f) << c; break;
        case PostOp::kStore: op->out[at + c] = x; break;
      }
    }
    if (op->operation == PostOp::kBitpack) op->bits[at] = word;
  }
}

// Signs: see Chain; void without chains.
template <BitpackFunction kBitpack, typename Signs>
inline void post_ops_f32(const PostOpInput& input, const PostOp* ops, int count, int pixels, int width) {
  if constexpr (!std::is_void_v<Signs>) {
    if (width % kFewestChannels == 0 && RunChain<Signs>(input, ops, count, pixels, width)) return;
  }
  constexpr int kWhole = kTileChannels / BDD_LANES;
  int64_t row = 0;
  if (width == kTileChannels) {
    for (; row + BDD_ROWS <= pixels; row += BDD_ROWS) PostOpRows<BDD_ROWS, kWhole, kBitpack>(input, ops, count, row);
    for (; row < pixels; ++row) PostOpRows<1, kWhole, kBitpack>(input, ops, count, row);
  } else if (width == kTileChannels / 2) {
    for (; row + BDD_ROWS <= pixels; row += BDD_ROWS)
      PostOpRows<BDD_ROWS, kWhole / 2, kBitpack>(input, ops, count, row);
    for (; row < pixels; ++row) PostOpRows<1, kWhole / 2, kBitpack>(input, ops, count, row);
  } else {
    for (; row < pixels; ++row) PostOpPartialRow(input, ops, count, row, width);
  }
}

}  // namespace
}  // namespace bdd
