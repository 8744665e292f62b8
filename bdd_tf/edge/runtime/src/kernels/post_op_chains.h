// Sequences of post-ops that BNext's units consist of, each compiled as a whole: post_ops_f32 (post_ops.h) decides for
// every operation and pair of pixels anew and, where a row of channels fills many registers, runs out of them. Here a
// few channels of all pixels come first, then the next ones, so that vectors and sums stay in registers. The same
// values are computed in the same order. Included once by each kernel file.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

namespace bdd {
namespace {

// Operations of a chain. A vector is shared by all pixels, a map has values for each.
enum class Link { kMultiplyVector, kMultiplyMap, kAddVector, kAddMap, kSum, kStore, kBitpack };

constexpr bool HasVector(Link link) { return link == Link::kMultiplyVector || link == Link::kAddVector; }
constexpr bool HasMap(Link link) { return link == Link::kMultiplyMap || link == Link::kAddMap; }

inline bool IsLink(const PostOp& op, Link link) {
  switch (link) {
    case Link::kMultiplyVector: return op.operation == PostOp::kMultiply && op.stride == 0;
    case Link::kMultiplyMap: return op.operation == PostOp::kMultiply && op.stride != 0;
    case Link::kAddVector: return op.operation == PostOp::kAdd && op.stride == 0;
    case Link::kAddMap: return op.operation == PostOp::kAdd && op.stride != 0;
    case Link::kSum: return op.operation == PostOp::kSum;
    case Link::kStore: return op.operation == PostOp::kStore;
    default: return op.operation == PostOp::kBitpack;
  }
}

// Channels whose signs are packed together: Signs::Of(const Lanes (&values)[kSignChannels / BDD_LANES]) returns them,
// bit 1 where a value is below 0.
constexpr int kSignChannels = BDD_LANES < 8 ? 8 : BDD_LANES;
typedef std::conditional_t<kSignChannels == 8, uint8_t, uint16_t> SignBits;

// Channels that are processed at a time: as many as the registers hold vectors for, or what is left.
constexpr int kFewestChannels = 16;
constexpr int kPassChannels = BDD_LANES >= 16 ? 32 : kFewestChannels;

template <typename Signs, bool kFromAccumulators, Link... kOfChain>
struct Chain {
  static constexpr int kLength = sizeof...(kOfChain);
  static constexpr Link kLinks[kLength] = {kOfChain...};
  static constexpr int kPixelsOfPass = 32;  // whose rows of 32 channels fit into the L1 cache together

  static bool Matches(const PostOpInput& input, const PostOp* ops, int count) {
    if (count != kLength || (input.accumulators != nullptr) != kFromAccumulators) return false;
    for (int i = 0; i < kLength; ++i) {
      if (!IsLink(ops[i], kLinks[i])) return false;
    }
    return true;
  }

  static void Run(const PostOpInput& input, const PostOp* ops, int pixels, int width) {
    for (int first = 0; first < pixels; first += kPixelsOfPass) {
      const int count = std::min(pixels - first, kPixelsOfPass);
      if (width < kTileChannels) ClearBits(ops, first, count);
      int channel = 0;
      for (; channel + kPassChannels <= width; channel += kPassChannels) {
        RunChannels<kPassChannels / BDD_LANES>(input, ops, channel, first, count, Indices());
      }
      if constexpr (kFewestChannels < kPassChannels) {
        for (; channel < width; channel += kFewestChannels) {
          RunChannels<kFewestChannels / BDD_LANES>(input, ops, channel, first, count, Indices());
        }
      }
    }
  }

 private:
  // The bits of missing channels are 0.
  static void ClearBits(const PostOp* ops, int64_t first, int count) {
    for (int i = 0; i < kLength; ++i) {
      if (kLinks[i] != Link::kBitpack) continue;
      for (int64_t row = first; row < first + count; ++row) ops[i].bits[row * ops[i].stride] = 0;
    }
  }

  // Where an operation reads or writes the current pixel: copies, because stores could alias a PostOp.
  struct Cursor {
    const float* from;
    float* to;
    SignBits* bits;
    int64_t step;

    Cursor(const PostOp& op, Link link, int64_t row, int channel)
        : from(HasMap(link) ? op.b + row * op.stride + channel : nullptr),
          to(link == Link::kStore ? op.out + row * op.stride + channel : nullptr),
          bits(link == Link::kBitpack ? reinterpret_cast<SignBits*>(op.bits + row * op.stride) + channel / kSignChannels
                                      : nullptr),
          step(op.stride) {}
  };

  template <typename Index>
  BDD_INLINE static constexpr Link LinkAt(Index) {
    return kLinks[Index::value];
  }

  typedef std::make_integer_sequence<int, kLength> Indices;

  template <int kVectors, int... kIndex>
  static void RunChannels(const PostOpInput& input, const PostOp* ops, int channel, int64_t first, int count,
                          std::integer_sequence<int, kIndex...>) {
    Lanes multiplier[kVectors], bias[kVectors], slope[kVectors];
    const int16_t* accumulators = nullptr;
    const float* values = nullptr;
    if constexpr (kFromAccumulators) {
      accumulators = input.accumulators + first * input.stride + channel;
      Unroll<kVectors>([&](auto k) BDD_INLINE {
        multiplier[k] = Load(input.multiplier + channel + k * BDD_LANES);
        bias[k] = Load(input.bias + channel + k * BDD_LANES);
        slope[k] = Load(input.slopes + channel + k * BDD_LANES);
      });
    } else {
      values = input.values + first * input.stride + channel;
    }
    const int64_t stride = input.stride;
    Lanes shared[kLength][kVectors];  // vectors and sums
    Unroll<kLength>([&](auto i) BDD_INLINE {
      constexpr Link link = LinkAt(i);
      if constexpr (HasVector(link) || link == Link::kSum) {
        const float* from = (link == Link::kSum ? ops[i].out : ops[i].b) + channel;
        Unroll<kVectors>([&](auto k) BDD_INLINE { shared[i][k] = Load(from + k * BDD_LANES); });
      }
    });
    Cursor cursors[kLength] = {Cursor(ops[kIndex], kLinks[kIndex], first, channel)...};
    for (; count > 0; --count) {
      Lanes v[kVectors];
      if constexpr (kFromAccumulators) {
        Unroll<kVectors>([&](auto k) BDD_INLINE {
          v[k] = PreluOf(LoadShorts(accumulators + k * BDD_LANES) * multiplier[k] + bias[k], slope[k]);
        });
        accumulators += stride;
      } else {
        Unroll<kVectors>([&](auto k) BDD_INLINE { v[k] = Load(values + k * BDD_LANES); });
        values += stride;
      }
      Unroll<kLength>([&](auto i) BDD_INLINE { Apply<LinkAt(i)>(cursors[i], shared[i], v); });
    }
    Unroll<kLength>([&](auto i) BDD_INLINE {
      if constexpr (LinkAt(i) == Link::kSum) {
        Unroll<kVectors>([&](auto k) BDD_INLINE { Store(ops[i].out + channel + k * BDD_LANES, shared[i][k]); });
      }
    });
  }

  template <Link kLink, int kVectors>
  BDD_INLINE static void Apply(Cursor& cursor, Lanes (&shared)[kVectors], Lanes (&v)[kVectors]) {
    if constexpr (kLink == Link::kBitpack) {
      constexpr int kParts = kVectors * BDD_LANES / kSignChannels, kOfPart = kSignChannels / BDD_LANES;
      Unroll<kParts>([&](auto part) BDD_INLINE {
        Lanes of[kOfPart];
        Unroll<kOfPart>([&](auto k) BDD_INLINE { of[k] = v[part * kOfPart + k]; });
        cursor.bits[part] = static_cast<SignBits>(Signs::Of(of));
      });
      cursor.bits += 4 * cursor.step / static_cast<int64_t>(sizeof(SignBits));
    }
    Unroll<kVectors>([&](auto k) BDD_INLINE {
      if constexpr (kLink == Link::kMultiplyVector) v[k] = v[k] * shared[k];
      if constexpr (kLink == Link::kMultiplyMap) v[k] = v[k] * Load(cursor.from + k * BDD_LANES);
      if constexpr (kLink == Link::kAddVector) v[k] = v[k] + shared[k];
      if constexpr (kLink == Link::kAddMap) v[k] = v[k] + Load(cursor.from + k * BDD_LANES);
      if constexpr (kLink == Link::kSum) shared[k] = shared[k] + v[k];
      if constexpr (kLink == Link::kStore) Store(cursor.to + k * BDD_LANES, v[k]);
    });
    if constexpr (HasMap(kLink)) cursor.from += cursor.step;
    if constexpr (kLink == Link::kStore) cursor.to += cursor.step;
  }
};

template <typename Chain>
inline bool RunIfMatches(const PostOpInput& input, const PostOp* ops, int count, int pixels, int width) {
  if (!Chain::Matches(input, ops, count)) return false;
  Chain::Run(input, ops, pixels, width);
  return true;
}

// Runs the operations if they are one of the chains, and returns whether they are.
template <typename Signs>
inline bool RunChain(const PostOpInput& input, const PostOp* ops, int count, int pixels, int width) {
  constexpr Link kGate = Link::kMultiplyVector, kScale = Link::kMultiplyMap, kShift = Link::kAddVector;
  constexpr Link kShortcut = Link::kAddMap, kSum = Link::kSum, kStore = Link::kStore, kPack = Link::kBitpack;
  const auto any = [&](auto... chains) {
    return (RunIfMatches<decltype(chains)>(input, ops, count, pixels, width) || ...);
  };
  return any(Chain<Signs, true, kGate, kShortcut, kStore, kSum, kShift, kPack>(),
             Chain<Signs, true, kGate, kShortcut, kShift, kSum, kStore, kShift, kPack>(),
             Chain<Signs, true, kGate, kShortcut, kShift, kStore, kSum, kShift, kPack>(),
             Chain<Signs, true, kGate, kScale, kShortcut, kStore, kSum, kShift, kPack>(),
             Chain<Signs, true, kGate, kShortcut, kStore>(), Chain<Signs, false, kShift, kSum, kStore, kShift, kPack>(),
             Chain<Signs, false, kShift, kPack>(), Chain<Signs, false, kSum>());
}

}  // namespace
}  // namespace bdd
