// Dot products of signs where registers have no popcount of their own: a carry-save adder first makes one register of
// eight, and only that one's bits are looked up, four at a time. Included like tile.h, once by each file of kernels.
// AVX2, whose full adder takes five operations instead of two, gained nothing by it (BNext-T in turns: 0.99 of the time
// at best, 1.05 in the median).
#pragma once

#include "kernels.h"
#include "tile.h"

namespace bdd {
namespace {

// Bits of weight 1, 2 and 4 that no carry has taken yet.
template <typename Unit>
struct Adder {
  typename Unit::Register ones = Unit::Zero(), twos = Unit::Zero(), fours = Unit::Zero();
};

// sums[m * apart + n] for kCount places and the Unit::kLanes channels whose first weights are at `weights`, where a
// word's follow the last one's after `step`. Unit gives registers of 32-bit words and what is done with them:
// AddWords and Add are full adders that change `sum` and return the carry, Count<w> gives w times the popcount of each
// byte, and Widen adds the bytes of a word, `eights` eightfold.
template <typename Unit, int kCount>
inline void CarrySaveTile(const uint32_t* const* places, const Taps& taps, const uint32_t* weights, int64_t step,
                          int32_t* sums, int64_t apart) {
  using Register = typename Unit::Register;
  constexpr int64_t kBlock = 8;
  constexpr int64_t kFlush = 31 * kBlock;  // a byte of `eights` gains at most 8 a block
  const int32_t* offsets = taps.offsets;
  Adder<Unit> adders[kCount];
  Register totals[kCount];
  Unroll<kCount>([&](auto m) BDD_INLINE { totals[m] = Unit::Zero(); });

  // Two words of input: the carry, of weight 2.
  const auto two = [&](int64_t k, Register(&carry)[kCount]) BDD_INLINE {
    const uint32_t *w = weights + k * step, *u = w + step;
    const int64_t first = offsets[k], second = offsets[k + 1];
    Unroll<kCount>([&](auto m) BDD_INLINE {
      carry[m] = Unit::AddWords(adders[m].ones, Unit::Load(w), Unit::Broadcast(places[m][first]), Unit::Load(u),
                                Unit::Broadcast(places[m][second]));
    });
  };
  // Four: of weight 4.
  const auto four = [&](int64_t k, Register(&carry)[kCount]) BDD_INLINE {
    Register other[kCount];
    two(k, carry);
    two(k + 2, other);
    Unroll<kCount>([&](auto m) BDD_INLINE { carry[m] = Unit::Add(adders[m].twos, carry[m], other[m]); });
  };

  int64_t k = 0;
  Register bytes[kCount], eights[kCount];
  do {
    Unroll<kCount>([&](auto m) BDD_INLINE { eights[m] = Unit::Zero(); });
    const int64_t end = taps.words - k < kFlush ? taps.words : k + kFlush;
    for (; k + kBlock <= end; k += kBlock) {
      Register carry[kCount], other[kCount];
      four(k, carry);
      four(k + 4, other);
      Unroll<kCount>([&](auto m) BDD_INLINE {
        const Register eight = Unit::Add(adders[m].fours, carry[m], other[m]);
        eights[m] = Unit::AddBytes(eights[m], Unit::template Count<1>(eight));
      });
    }
    Unroll<kCount>([&](auto m) BDD_INLINE { bytes[m] = Unit::Zero(); });
    if (taps.words - k < kBlock) {  // nothing but the rest is left
      const auto count = [&](auto weight, const auto& bits) BDD_INLINE {
        Unroll<kCount>([&](auto m) BDD_INLINE {
          bytes[m] = Unit::AddBytes(bytes[m], Unit::template Count<decltype(weight)::value>(bits(m)));
        });
      };
      constexpr std::integral_constant<int, 1> kOne;
      constexpr std::integral_constant<int, 2> kTwo;
      constexpr std::integral_constant<int, 4> kFour;
      const int64_t rest = taps.words - k;
      Register carry[kCount];
      if ((rest & 4) != 0) {
        four(k, carry);
        count(kFour, [&](auto m) BDD_INLINE { return carry[m]; });
        k += 4;
      }
      if ((rest & 2) != 0) {
        two(k, carry);
        count(kTwo, [&](auto m) BDD_INLINE { return carry[m]; });
        k += 2;
      }
      if ((rest & 1) != 0) {
        const int64_t offset = offsets[k];
        const Register w = Unit::Load(weights + k * step);
        count(kOne, [&](auto m) BDD_INLINE { return Unit::Xor(w, Unit::Broadcast(places[m][offset])); });
        k += 1;
      }
      if (taps.words >= 2) count(kOne, [&](auto m) BDD_INLINE { return adders[m].ones; });
      if (taps.words >= 4) count(kTwo, [&](auto m) BDD_INLINE { return adders[m].twos; });
      if (taps.words >= 8) count(kFour, [&](auto m) BDD_INLINE { return adders[m].fours; });
    }
    Unroll<kCount>([&](auto m) BDD_INLINE { totals[m] = Unit::Sum(totals[m], Unit::Widen(bytes[m], eights[m])); });
  } while (k < taps.words);
  Unroll<kCount>([&](auto m) BDD_INLINE { Unit::Store(sums + m * apart, totals[m]); });
}

// As many places at a time as registers hold.
template <typename Unit, int kPlaces>
inline void CarrySave(const uint32_t* const* places, int count, const Taps& taps, const uint32_t* weights, int64_t step,
                      int32_t* sums) {
  int m = 0;
  for (; m + kPlaces <= count; m += kPlaces) {
    CarrySaveTile<Unit, kPlaces>(places + m, taps, weights, step, sums + m * step, step);
  }
  for (; m < count; ++m) CarrySaveTile<Unit, 1>(places + m, taps, weights, step, sums + m * step, step);
}

}  // namespace
}  // namespace bdd
