#include "unit.h"

#include <algorithm>
#include <cmath>

namespace bdd {
namespace {

constexpr float kEpsilon = 1e-5f;
constexpr float kClip = 1.5f;
alignas(64) constexpr float kZeros[kPanel] = {};
constexpr int kRowsInCache = 256;  // pixels of a group of images: small maps are taken together

inline uint64_t SignBits(const float* x, const float* move, int count, float low) {
  // Bit j: x[j] + move[j] >= low.
  uint64_t bits = 0;
#if defined(__AVX512F__)
  for (int j = 0; j < count; j += 16) {
    const __m512 v = _mm512_add_ps(_mm512_loadu_ps(x + j), _mm512_loadu_ps(move + j));
    bits |= static_cast<uint64_t>(_mm512_cmp_ps_mask(v, _mm512_set1_ps(low), _CMP_GE_OQ)) << j;
  }
#elif defined(__AVX2__)
  for (int j = 0; j < count; j += 8) {
    const __m256 v = _mm256_add_ps(_mm256_loadu_ps(x + j), _mm256_loadu_ps(move + j));
    const int mask = _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_set1_ps(low), _CMP_GE_OQ));
    bits |= static_cast<uint64_t>(static_cast<uint32_t>(mask)) << j;
  }
#else
  for (int j = 0; j < count; ++j) bits |= static_cast<uint64_t>(x[j] + move[j] >= low) << j;
#endif
  return bits;
}

inline uint64_t PassBits(const float* x, const float* move, int count) {
  // Bit j: |x[j] + move[j]| <= 1.5.
  uint64_t bits = 0;
#if defined(__AVX512F__)
  for (int j = 0; j < count; j += 16) {
    const __m512 v = _mm512_abs_ps(_mm512_add_ps(_mm512_loadu_ps(x + j), _mm512_loadu_ps(move + j)));
    bits |= static_cast<uint64_t>(_mm512_cmp_ps_mask(v, _mm512_set1_ps(kClip), _CMP_LE_OQ)) << j;
  }
#elif defined(__AVX2__)
  const __m256 sign = _mm256_set1_ps(-0.0f);
  for (int j = 0; j < count; j += 8) {
    const __m256 v = _mm256_andnot_ps(sign, _mm256_add_ps(_mm256_loadu_ps(x + j), _mm256_loadu_ps(move + j)));
    const int mask = _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_set1_ps(kClip), _CMP_LE_OQ));
    bits |= static_cast<uint64_t>(static_cast<uint32_t>(mask)) << j;
  }
#else
  for (int j = 0; j < count; ++j) bits |= static_cast<uint64_t>(std::fabs(x[j] + move[j]) <= kClip) << j;
#endif
  return bits;
}

// ones[j] where the bit is set, else zeros[j].
inline void Spread(uint64_t bits, int count, float one, float zero, float* out) {
#if defined(__AVX512F__)
  for (int j = 0; j < count; j += 16) {
    const __m512 v = _mm512_mask_blend_ps(static_cast<__mmask16>(bits >> j), _mm512_set1_ps(zero), _mm512_set1_ps(one));
    _mm512_storeu_ps(out + j, v);
  }
#elif defined(__AVX2__)
  const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  for (int j = 0; j < count; j += 8) {
    const __m256i b = _mm256_set1_epi32(static_cast<int>((bits >> j) & 255));
    const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(b, each), each);
    const __m256 v = _mm256_blendv_ps(_mm256_set1_ps(zero), _mm256_set1_ps(one), _mm256_castsi256_ps(set));
    _mm256_storeu_ps(out + j, v);
  }
#else
  for (int j = 0; j < count; ++j) out[j] = (bits >> j & 1) ? one : zero;
#endif
}

inline float Sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

}  // namespace

struct Unit::Lane {
  Buffer<double> sum_y, sum_y2, sum_p, sum_py, d_slope;  // [C]
  Buffer<float> d_move, d_residual, d_mix, d_reduce_bias, d_expand_bias;
  Buffer<float> d_kernel;  // [tap, panel of inputs, panel of outputs, 16, 16]
  Buffer<float> d_reduce, d_expand;
  Buffer<float> a, b, c, d;                            // [C]
  Buffer<uint64_t> column;                             // [out pixels of an image, tap, word]
  Buffer<float> dy;                                    // [panel, rows out, 16]
  Buffer<float> signs, dx;                             // [panel, rows in, 16]
  Buffer<float> d_through;                             // [rows out, C]: what the residual gets, with attention
  Buffer<float> largest, row_scale;                    // of |dy|: [C], and as a scale [rows out]
  Buffer<int32_t> row_sum, pixel_sum, tap_sum, block;  // [rows out], [out, C], [C], [4, 16]
  Buffer<int8_t> by_row, by_channel;                   // dy: [rows out, C]; [panel of 8, out, quad of images, 8, 4]
  Buffer<uint8_t> positive;                            // signs of x: [panel of 8, in, quad of images, 8, 4]
  std::vector<std::vector<Row>> rows;                  // by tap, for `rows_images` images
  int rows_images = 0;
};

template <typename F>
void Unit::ForLanes(int items, const F& f) {
  // Which lane does what depends on their number alone, not on which thread comes first.
  struct Call {
    const F* f;
    int items, lanes;
  } call{&f, items, lanes_};
  pool_->Run(
      lanes_,
      [](void* argument, int64_t lane, int) {
        const Call& c = *static_cast<const Call*>(argument);
        const int from = static_cast<int>(lane * c.items / c.lanes),
                  to = static_cast<int>((lane + 1) * c.items / c.lanes);
        (*c.f)(static_cast<int>(lane), from, to);
      },
      &call);
}

Unit::Unit(const Shape& shape, ThreadPool* pool) : s_(shape), pool_(pool) {
  lanes_ = std::max(pool->threads(), 1);
  const int height = s_.height / s_.stride, width = s_.width / s_.stride, c = s_.channels;
  in_ = s_.height * s_.width;
  out_ = height * width;
  taps_ = s_.kernel * s_.kernel;
  words_ = (c + 63) / 64;
  squeezed_ = c / 8;
  keeps_residual_ = s_.attention || s_.stride == 2;
  // Integer products take the same pixel of four images together.
  group_ = std::clamp(kRowsInCache / in_, 4, std::max(s_.batch / lanes_, 4));

  // TensorFlow's SAME: 1 before and after at stride 1, 0 before and 1 after at stride 2 (even sizes).
  const int before = s_.kernel == 3 && s_.stride == 1 ? 1 : 0;
  pairs_.resize(static_cast<size_t>(taps_));
  places_.Resize(static_cast<int64_t>(out_) * taps_);
  class_of_.Resize(out_);
  for (int o = 0; o < out_; ++o) {
    std::vector<int> missing;
    for (int t = 0; t < taps_; ++t) {
      const int row = o / width * s_.stride + t / s_.kernel - before;
      const int column = o % width * s_.stride + t % s_.kernel - before;
      const bool inside = row >= 0 && row < s_.height && column >= 0 && column < s_.width;
      places_[static_cast<int64_t>(o) * taps_ + t] = inside ? row * s_.width + column : -1;
      if (inside) {
        pairs_[static_cast<size_t>(t)].push_back({row * s_.width + column, o});
      } else {
        missing.push_back(t);
      }
    }
    const auto known = std::find(class_taps_.begin(), class_taps_.end(), missing);
    class_of_[o] = static_cast<int>(known - class_taps_.begin());
    if (known == class_taps_.end()) class_taps_.push_back(missing);
  }

  const int64_t n = s_.batch;
  weight_bits_.Resize(static_cast<int64_t>(c) * taps_ * words_);
  border_.Resize(static_cast<int64_t>(class_taps_.size()) * c);
  weight_bytes_.Resize(static_cast<int64_t>(taps_) * c * c);
  bits_.Resize(n * in_ * words_);
  passes_.Resize(n * in_ * words_);
  y_.Resize(n * out_ * c);
  if (keeps_residual_) residual_.Resize(n * out_ * c);
  for (Buffer<float>* b :
       {&mean_in_, &sum_z_, &sum_v_, &sum_v2_, &mixed_, &gate_, &sum_d_, &sum_dv_, &dgate_, &dmixed_}) {
    b->Resize(n * c);
  }
  hidden_.Resize(n * squeezed_);
  for (Buffer<float>* b : {&scale1_, &shift1_, &mean1_, &rstd1_, &scale2_, &shift2_, &mean2_, &rstd2_, &alpha_, &beta_,
                           &kappa_, &a1_, &b1_, &k1_}) {
    b->Resize(c);
  }
  for (int i = 0; i < lanes_; ++i) {
    Lane* lane = new Lane;
    for (Buffer<double>* b : {&lane->sum_y, &lane->sum_y2, &lane->sum_p, &lane->sum_py, &lane->d_slope}) b->Resize(c);
    for (Buffer<float>* b : {&lane->d_move, &lane->d_residual, &lane->d_mix, &lane->d_expand_bias, &lane->a, &lane->b,
                             &lane->c, &lane->d}) {
      b->Resize(c);
    }
    lane->d_reduce_bias.Resize(squeezed_);
    lane->d_reduce.Resize(static_cast<int64_t>(c) * squeezed_);
    lane->d_expand.Resize(static_cast<int64_t>(c) * squeezed_);
    lane->d_kernel.Resize(static_cast<int64_t>(taps_) * c * c);
    lane->column.Resize(static_cast<int64_t>(out_) * taps_ * words_);
    lane->dy.Resize(static_cast<int64_t>(group_) * out_ * c);
    lane->signs.Resize(static_cast<int64_t>(group_) * in_ * c);
    lane->dx.Resize(static_cast<int64_t>(group_) * in_ * c);
    if (s_.attention) lane->d_through.Resize(static_cast<int64_t>(group_) * out_ * c);
    const int64_t quads = (group_ + 3) / 4;
    lane->largest.Resize(c);
    lane->tap_sum.Resize(c);
    lane->block.Resize(4 * kPanel);
    lane->row_scale.Resize(static_cast<int64_t>(group_) * out_);
    lane->row_sum.Resize(static_cast<int64_t>(group_) * out_);
    lane->pixel_sum.Resize(static_cast<int64_t>(out_) * c);
    lane->by_row.Resize(static_cast<int64_t>(group_) * out_ * c);
    lane->by_channel.Resize(quads * 4 * out_ * c);
    lane->positive.Resize(quads * 4 * in_ * c);
    lane_.push_back(lane);
  }
}

Unit::~Unit() {
  for (Lane* lane : lane_) delete lane;
}

void Unit::PackWeights(const float* kernel) {
  const int c = s_.channels, panels = c / kPanel;
  // Tasks: panels of 16 outputs, so that no two write into one word of bits.
  ForLanes(panels, [&](int, int from, int to) {
    for (int q = from; q < to; ++q) {
      uint64_t* bits = &weight_bits_[static_cast<int64_t>(q) * kPanel * taps_ * words_];
      std::memset(bits, 0, sizeof(uint64_t) * static_cast<size_t>(kPanel * taps_ * words_));
      for (int t = 0; t < taps_; ++t) {
        for (int i = 0; i < c; ++i) {
          const float* w = kernel + (static_cast<int64_t>(t) * c + i) * c + q * kPanel;
          uint64_t row = SignBits(w, kZeros, kPanel, 0.0f);
          // [tap, panel of 8 inputs, four outputs, 8, 4]
          uint8_t* bytes =
              &weight_bytes_[((static_cast<int64_t>(t) * (c / 8) + i / 8) * (c / 4) + q * 4) * 32 + i % 8 * 4];
          uint64_t* word = bits + static_cast<int64_t>(t) * words_ + i / 64;
          for (int o = 0; o < kPanel; ++o, row >>= 1) {
            const uint64_t positive = row & 1;
            word[static_cast<int64_t>(o) * taps_ * words_] |= positive << (i % 64);
            bytes[o / 4 * 32 + o % 4] = static_cast<uint8_t>(positive);
          }
        }
      }
      // A missing tap reads zeros as bits: its popcount is that of the weights, its share of the result 0.
      for (int o = 0; o < kPanel; ++o) {
        for (size_t k = 0; k < class_taps_.size(); ++k) {
          int count = 0;
          for (int t : class_taps_[k]) {
            for (int i = 0; i < words_; ++i) {
              count += __builtin_popcountll(bits[(static_cast<int64_t>(o) * taps_ + t) * words_ + i]);
            }
          }
          const int valid = taps_ - static_cast<int>(class_taps_[k].size());
          border_[static_cast<int64_t>(k) * c + q * kPanel + o] = static_cast<int16_t>(valid * c + 2 * count);
        }
      }
    }
  });
}

void Unit::SpreadWeights() {
  const int c = s_.channels, panels = c / kPanel;
  ForLanes(c, [&](int, int from, int to) {
    for (int o = from; o < to; ++o) {
      for (int t = 0; t < taps_; ++t) {
        const uint64_t* bits = &weight_bits_[(static_cast<int64_t>(o) * taps_ + t) * words_];
        for (int i = 0; i < panels; ++i) {
          Spread(bits[i / 4] >> (i % 4 * kPanel), kPanel, 1.0f, -1.0f,
                 &weight_signs_[((static_cast<int64_t>(t) * panels + i) * c + o) * kPanel]);
        }
      }
    }
  });
}

const float* Unit::Residual(int image, const float* x, int64_t x_step, int64_t* step) const {
  if (keeps_residual_) {
    *step = s_.channels;
    return residual_.data() + static_cast<int64_t>(image) * out_ * s_.channels;
  }
  *step = x_step;
  return x + static_cast<int64_t>(image) * in_ * x_step;
}

void Unit::SignsAndConvolution(int image, const float* x, int64_t x_step, const float* const* parameters, Lane& lane,
                               bool training) {
  const int c = s_.channels;
  const float* move = parameters[kMove];
  const float* slope = parameters[kResidual];
  const float* input = x + static_cast<int64_t>(image) * in_ * x_step;
  float* mean = &mean_in_[static_cast<int64_t>(image) * c];
  float* residual = keeps_residual_ ? &residual_[static_cast<int64_t>(image) * out_ * c] : nullptr;
  std::fill(mean, mean + c, 0.0f);
  if (residual && s_.stride == 2) std::fill(residual, residual + static_cast<int64_t>(out_) * c, 0.0f);
  for (int p = 0; p < in_; ++p) {
    const float* v = input + p * x_step;
    const int64_t at = (static_cast<int64_t>(image) * in_ + p) * words_;
    for (int w = 0; w < words_; ++w) {
      const int count = std::min(64, c - 64 * w);
      bits_[at + w] = SignBits(v + 64 * w, move + 64 * w, count, 0.0f);
      if (training) passes_[at + w] = PassBits(v + 64 * w, move + 64 * w, count);
    }
    for (int i = 0; i < c; i += kLanes) Add(mean + i, Load(v + i));
    if (!residual) continue;
    const int column = p % s_.width / s_.stride, row = p / s_.width / s_.stride;
    float* r = residual + (static_cast<int64_t>(row) * (s_.width / s_.stride) + column) * c;
    for (int i = 0; i < c; i += kLanes) {
      const Floats value = s_.attention ? LeakyMax(Load(v + i), Load(slope + i)) : Load(v + i);
      Store(r + i, s_.stride == 2 ? Load(r + i) + 0.25f * value : value);
    }
  }
  const float share = 1.0f / static_cast<float>(in_);
  for (int i = 0; i < c; ++i) mean[i] *= share;

  const int length = taps_ * words_;
  const uint64_t* bits = &bits_[static_cast<int64_t>(image) * in_ * words_];
  const uint64_t* columns = bits;
  if (s_.kernel == 3) {
    for (int o = 0; o < out_; ++o) {
      for (int t = 0; t < taps_; ++t) {
        const int place = places_[static_cast<int64_t>(o) * taps_ + t];
        uint64_t* to = &lane.column[(static_cast<int64_t>(o) * taps_ + t) * words_];
        for (int w = 0; w < words_; ++w) to[w] = place < 0 ? 0 : bits[static_cast<int64_t>(place) * words_ + w];
      }
    }
    columns = lane.column.data();
  }
  int16_t* y = &y_[static_cast<int64_t>(image) * out_ * c];
  constexpr int kTogether = 4;
  for (int o = 0; o < out_; o += kTogether) {
    const int count = std::min(kTogether, out_ - o);
    const uint64_t* from[kTogether];
    const int16_t* border[kTogether];
    for (int m = 0; m < kTogether; ++m) {
      const int pixel = o + std::min(m, count - 1);
      from[m] = columns + static_cast<int64_t>(pixel) * length;
      border[m] = &border_[static_cast<int64_t>(class_of_[pixel]) * c];
    }
    for (int i = 0; i < c; ++i) {
      const uint64_t* w = &weight_bits_[static_cast<int64_t>(i) * length];
      int64_t n0 = 0, n1 = 0, n2 = 0, n3 = 0;
      for (int j = 0; j < length; ++j) {
        n0 += __builtin_popcountll(w[j] ^ from[0][j]);
        n1 += __builtin_popcountll(w[j] ^ from[1][j]);
        n2 += __builtin_popcountll(w[j] ^ from[2][j]);
        n3 += __builtin_popcountll(w[j] ^ from[3][j]);
      }
      const int64_t sums[kTogether] = {n0, n1, n2, n3};
      for (int m = 0; m < count; ++m) {
        y[static_cast<int64_t>(o + m) * c + i] = static_cast<int16_t>(border[m][i] - 2 * sums[m]);
      }
    }
  }
  if (!training) return;
  float* sum = lane.a.data();
  float* squares = lane.b.data();
  std::fill(sum, sum + c, 0.0f);
  std::fill(squares, squares + c, 0.0f);
  for (int o = 0; o < out_; ++o) {
    const int16_t* v = y + static_cast<int64_t>(o) * c;
    for (int i = 0; i < c; i += kLanes) {
      const Floats f = Load(v + i);
      Add(sum + i, f);
      Add(squares + i, f * f);
    }
  }
  for (int i = 0; i < c; ++i) {
    lane.sum_y[i] += static_cast<double>(sum[i]);
    lane.sum_y2[i] += static_cast<double>(squares[i]);
  }
}

void Unit::Sums(int image, const float* x, int64_t x_step, const float* const* parameters) {
  const int c = s_.channels;
  const int64_t at = static_cast<int64_t>(image) * c;
  const float *scale = scale1_.data(), *shift = shift1_.data(), *slope = parameters[kSlope];
  const int16_t* y = &y_[static_cast<int64_t>(image) * out_ * c];
  float *sum_z = &sum_z_[at], *sum_v = &sum_v_[at], *sum_v2 = &sum_v2_[at];
  std::fill(sum_z, sum_z + c, 0.0f);
  std::fill(sum_v, sum_v + c, 0.0f);
  std::fill(sum_v2, sum_v2 + c, 0.0f);
  int64_t step;
  const float* residual = Residual(image, x, x_step, &step);
  for (int o = 0; o < out_; ++o) {
    const int16_t* v = y + static_cast<int64_t>(o) * c;
    const float* r = residual + o * step;
    for (int i = 0; i < c; i += kLanes) {
      const Floats z = LeakyMax(Load(scale + i) * Load(v + i) + Load(shift + i), Load(slope + i));
      Add(sum_z + i, z);
      const Floats a = s_.attention ? z * Load(r + i) : z;
      if (s_.attention) Add(sum_v + i, a);
      Add(sum_v2 + i, a * a);
    }
  }
  if (!s_.attention) std::copy(sum_z, sum_z + c, sum_v);

  // The gate.
  const float share = 1.0f / static_cast<float>(out_);
  const float *mix = parameters[kMix], *mean = &mean_in_[at];
  const float *reduce = parameters[kReduce], *expand = parameters[kExpand];
  float* mixed = &mixed_[at];
  float* hidden = &hidden_[static_cast<int64_t>(image) * squeezed_];
  float* gate = &gate_[at];
  for (int i = 0; i < c; ++i) mixed[i] = mix[i] * mean[i] + (1.0f - mix[i]) * (sum_z[i] * share);
  std::copy(parameters[kReduceBias], parameters[kReduceBias] + squeezed_, hidden);
  for (int i = 0; i < c; ++i) {
    const float m = mixed[i];
    const float* w = reduce + static_cast<int64_t>(i) * squeezed_;
    for (int j = 0; j < squeezed_; ++j) hidden[j] += m * w[j];
  }
  for (int j = 0; j < squeezed_; ++j) hidden[j] = std::max(hidden[j], 0.0f);
  std::copy(parameters[kExpandBias], parameters[kExpandBias] + c, gate);
  for (int j = 0; j < squeezed_; ++j) {
    const float h = hidden[j];
    if (h == 0.0f) continue;
    const float* w = expand + static_cast<int64_t>(j) * c;
    for (int i = 0; i < c; ++i) gate[i] += h * w[i];
  }
  for (int i = 0; i < c; ++i) gate[i] = Sigmoid(gate[i]);
}

void Unit::Output(int image, const float* x, int64_t x_step, const float* const* parameters, float* out,
                  int64_t out_step) {
  const int c = s_.channels;
  const float *scale = scale1_.data(), *shift = shift1_.data(), *slope = parameters[kSlope];
  const float *gate = &gate_[static_cast<int64_t>(image) * c], *scale2 = scale2_.data(), *shift2 = shift2_.data();
  const int16_t* y = &y_[static_cast<int64_t>(image) * out_ * c];
  int64_t step;
  const float* residual = Residual(image, x, x_step, &step);
  float* to = out + static_cast<int64_t>(image) * out_ * out_step;
  for (int o = 0; o < out_; ++o) {
    const int16_t* v = y + static_cast<int64_t>(o) * c;
    const float* r = residual + o * step;
    float* t = to + o * out_step;
    for (int i = 0; i < c; i += kLanes) {
      const Floats z = LeakyMax(Load(scale + i) * Load(v + i) + Load(shift + i), Load(slope + i));
      const Floats passed = Load(r + i), a = s_.attention ? z * passed : z;
      Store(t + i, Load(scale2 + i) * Load(gate + i) * a + Load(shift2 + i) + passed);
    }
  }
}

void Unit::Forward(const float* x, int64_t x_step, const float* const* parameters, float* out, int64_t out_step,
                   float* statistics, bool training) {
  const int c = s_.channels, n = s_.batch;
  const double count = static_cast<double>(n) * out_;
  const double bessel = count > 1 ? count / (count - 1) : 1.0;
  PackWeights(parameters[kKernel]);
  ForLanes(n, [&](int l, int from, int to) {
    Lane& lane = *lane_[static_cast<size_t>(l)];
    lane.sum_y.Clear();
    lane.sum_y2.Clear();
    for (int i = from; i < to; ++i) SignsAndConvolution(i, x, x_step, parameters, lane, training);
  });
  for (int i = 0; i < c; ++i) {
    double mean, variance;
    if (training) {
      double sum = 0, squares = 0;
      for (Lane* lane : lane_) {
        sum += lane->sum_y[i];
        squares += lane->sum_y2[i];
      }
      mean = sum / count;
      variance = std::max(squares / count - mean * mean, 0.0);
      statistics[i] = static_cast<float>(mean);
      statistics[c + i] = static_cast<float>(variance * bessel);
    } else {
      mean = statistics[i];
      variance = statistics[c + i];
    }
    const double rstd = 1.0 / std::sqrt(variance + kEpsilon);
    mean1_[i] = static_cast<float>(mean);
    rstd1_[i] = static_cast<float>(rstd);
    scale1_[i] = static_cast<float>(parameters[kGamma1][i] * rstd);
    shift1_[i] = static_cast<float>(parameters[kBeta1][i] - parameters[kGamma1][i] * rstd * mean);
  }
  ForLanes(n, [&](int, int from, int to) {
    for (int i = from; i < to; ++i) Sums(i, x, x_step, parameters);
  });
  for (int i = 0; i < c; ++i) {
    double mean, variance;
    if (training) {
      double sum = 0, squares = 0;
      for (int k = 0; k < n; ++k) {
        const int64_t at = static_cast<int64_t>(k) * c + i;
        const double g = gate_[at];
        sum += g * sum_v_[at];
        squares += g * g * sum_v2_[at];
      }
      mean = sum / count;
      variance = std::max(squares / count - mean * mean, 0.0);
      statistics[2 * c + i] = static_cast<float>(mean);
      statistics[3 * c + i] = static_cast<float>(variance * bessel);
    } else {
      mean = statistics[2 * c + i];
      variance = statistics[3 * c + i];
    }
    const double rstd = 1.0 / std::sqrt(variance + kEpsilon);
    mean2_[i] = static_cast<float>(mean);
    rstd2_[i] = static_cast<float>(rstd);
    scale2_[i] = static_cast<float>(parameters[kGamma2][i] * rstd);
    shift2_[i] = static_cast<float>(parameters[kBeta2][i] - parameters[kGamma2][i] * rstd * mean);
  }
  ForLanes(n, [&](int, int from, int to) {
    for (int i = from; i < to; ++i) Output(i, x, x_step, parameters, out, out_step);
  });
}

void Unit::Backward(const float* x, int64_t x_step, const float* const* parameters, const float* dout,
                    int64_t dout_step, float* dx, int64_t dx_step, bool add, float* const* gradients, uint64_t seed,
                    bool exact) {
  const int c = s_.channels, n = s_.batch, squeezed = squeezed_;
  const double count = static_cast<double>(n) * out_;
#if !defined(__AVX2__)
  exact = true;
#endif
  if (exact) {
    if (weight_signs_.size() == 0) weight_signs_.Resize(static_cast<int64_t>(taps_) * c * c);
    SpreadWeights();
  }

  // What the second normalisation and the gate need of the gradient: two sums an image and channel.
  ForLanes(n, [&](int l, int from, int to) {
    Lane& lane = *lane_[static_cast<size_t>(l)];
    for (Buffer<double>* b : {&lane.sum_p, &lane.sum_py, &lane.d_slope}) b->Clear();
    for (Buffer<float>* b : {&lane.d_move, &lane.d_residual, &lane.d_mix, &lane.d_reduce_bias, &lane.d_expand_bias,
                             &lane.d_kernel, &lane.d_reduce, &lane.d_expand}) {
      b->Clear();
    }
    const float *scale = scale1_.data(), *shift = shift1_.data(), *slope = parameters[kSlope];
    for (int k = from; k < to; ++k) {
      const int16_t* y = &y_[static_cast<int64_t>(k) * out_ * c];
      const float* d = dout + static_cast<int64_t>(k) * out_ * dout_step;
      float *sum_d = &sum_d_[static_cast<int64_t>(k) * c], *sum_dv = &sum_dv_[static_cast<int64_t>(k) * c];
      std::fill(sum_d, sum_d + c, 0.0f);
      std::fill(sum_dv, sum_dv + c, 0.0f);
      int64_t step;
      const float* residual = Residual(k, x, x_step, &step);
      for (int o = 0; o < out_; ++o) {
        const int16_t* v = y + static_cast<int64_t>(o) * c;
        const float* g = d + o * dout_step;
        const float* r = residual + o * step;
        for (int i = 0; i < c; i += kLanes) {
          const Floats z = LeakyMax(Load(scale + i) * Load(v + i) + Load(shift + i), Load(slope + i));
          const Floats d_out = Load(g + i);
          Add(sum_d + i, d_out);
          Add(sum_dv + i, d_out * (s_.attention ? z * Load(r + i) : z));
        }
      }
    }
  });
  for (int i = 0; i < c; ++i) {
    double d = 0, dv = 0;
    for (int k = 0; k < n; ++k) {
      const int64_t at = static_cast<int64_t>(k) * c + i;
      d += sum_d_[at];
      dv += static_cast<double>(gate_[at]) * sum_dv_[at];
    }
    const double mean = mean2_[i], rstd = rstd2_[i];
    const double d_gamma = rstd * (dv - mean * d), alpha = parameters[kGamma2][i] * rstd;
    gradients[kGamma2][i] = static_cast<float>(d_gamma);
    gradients[kBeta2][i] = static_cast<float>(d);
    alpha_[i] = static_cast<float>(alpha);
    kappa_[i] = static_cast<float>(-alpha * d_gamma * rstd / count);
    beta_[i] = static_cast<float>(-alpha * d / count + alpha * d_gamma * rstd * mean / count);
  }

  // Through the gate, then what the first normalisation needs.
  ForLanes(n, [&](int l, int from, int to) {
    Lane& lane = *lane_[static_cast<size_t>(l)];
    const float *reduce = parameters[kReduce], *expand = parameters[kExpand], *mix = parameters[kMix];
    const float *scale = scale1_.data(), *shift = shift1_.data(), *slope = parameters[kSlope];
    const float share = 1.0f / static_cast<float>(out_);
    float *pre = lane.a.data(), *sum_p = lane.b.data(), *sum_py = lane.c.data(), *sum_slope = lane.d.data();
    const float *alpha = alpha_.data(), *beta = beta_.data(), *kappa = kappa_.data();
    float* dh = lane.dy.data();  // any scratch of C / 8 floats
    for (int k = from; k < to; ++k) {
      const int64_t at = static_cast<int64_t>(k) * c;
      const float *gate = &gate_[at], *mixed = &mixed_[at], *hidden = &hidden_[static_cast<int64_t>(k) * squeezed];
      for (int i = 0; i < c; ++i) {
        const float dgate =
            alpha_[i] * sum_dv_[at + i] + beta_[i] * sum_v_[at + i] + kappa_[i] * gate[i] * sum_v2_[at + i];
        pre[i] = dgate * gate[i] * (1.0f - gate[i]);
        lane.d_expand_bias[i] += pre[i];
      }
      for (int j = 0; j < squeezed; ++j) {
        const float h = hidden[j];
        dh[j] = 0.0f;
        if (h <= 0.0f) continue;
        const float* w = expand + static_cast<int64_t>(j) * c;
        float* dw = &lane.d_expand[static_cast<int64_t>(j) * c];
        Floats sum{};
        for (int i = 0; i < c; i += kLanes) {
          const Floats v = Load(pre + i);
          sum += Load(w + i) * v;
          Store(dw + i, Load(dw + i) + h * v);
        }
        float total = 0.0f;
        for (int i = 0; i < kLanes; ++i) total += sum[i];
        dh[j] = total;
        lane.d_reduce_bias[j] += total;
      }
      float* dmixed = &dmixed_[at];
      for (int i = 0; i < c; ++i) {
        const float* w = reduce + static_cast<int64_t>(i) * squeezed;
        float* dw = &lane.d_reduce[static_cast<int64_t>(i) * squeezed];
        float sum = 0.0f;
        const float m = mixed[i];
        for (int j = 0; j < squeezed; ++j) {
          sum += w[j] * dh[j];
          dw[j] += m * dh[j];
        }
        dmixed[i] = sum;
        lane.d_mix[i] += sum * (mean_in_[at + i] - sum_z_[at + i] * share);
      }

      // dz = dv gate [r] + e, with dv = alpha dout + beta + kappa v.
      float* e = pre;
      for (int i = 0; i < c; ++i) e[i] = (1.0f - mix[i]) * dmixed[i] * share;
      std::fill(sum_p, sum_p + c, 0.0f);
      std::fill(sum_py, sum_py + c, 0.0f);
      std::fill(sum_slope, sum_slope + c, 0.0f);
      const int16_t* y = &y_[static_cast<int64_t>(k) * out_ * c];
      const float* d = dout + static_cast<int64_t>(k) * out_ * dout_step;
      int64_t step;
      const float* residual = Residual(k, x, x_step, &step);
      for (int o = 0; o < out_; ++o) {
        const int16_t* v = y + static_cast<int64_t>(o) * c;
        const float* g = d + o * dout_step;
        const float* r = residual + o * step;
        for (int i = 0; i < c; i += kLanes) {
          const Floats value = Load(v + i), a = Load(slope + i);
          const Floats p = Load(scale + i) * value + Load(shift + i);
          const Floats factor = s_.attention ? Load(gate + i) * Load(r + i) : Load(gate + i);
          const Floats dv =
              Load(alpha + i) * Load(g + i) + Load(beta + i) + Load(kappa + i) * (factor * LeakyMax(p, a));
          const Floats dz = dv * factor + Load(e + i);
          const Floats dp = p > 0.0f ? dz : a * dz;
          Add(sum_p + i, dp);
          Add(sum_py + i, dp * value);
          Add(sum_slope + i, dz * (p > 0.0f ? Floats{} : p));
        }
      }
      for (int i = 0; i < c; ++i) {
        lane.sum_p[i] += static_cast<double>(sum_p[i]);
        lane.sum_py[i] += static_cast<double>(sum_py[i]);
        lane.d_slope[i] += static_cast<double>(sum_slope[i]);
      }
    }
  });
  for (int i = 0; i < c; ++i) {
    double p = 0, py = 0, slope = 0;
    for (Lane* lane : lane_) {
      p += lane->sum_p[i];
      py += lane->sum_py[i];
      slope += lane->d_slope[i];
    }
    const double mean = mean1_[i], rstd = rstd1_[i];
    const double d_gamma = rstd * (py - mean * p), alpha = parameters[kGamma1][i] * rstd;
    gradients[kGamma1][i] = static_cast<float>(d_gamma);
    gradients[kBeta1][i] = static_cast<float>(p);
    gradients[kSlope][i] = static_cast<float>(slope);
    a1_[i] = static_cast<float>(alpha);
    k1_[i] = static_cast<float>(-alpha * d_gamma * rstd / count);
    b1_[i] = static_cast<float>(-alpha * p / count + alpha * d_gamma * rstd * mean / count);
  }

  // The convolution's gradients and what goes back to x, a group of images at a time.
  const int groups = (n + group_ - 1) / group_;
  ForLanes(groups, [&](int l, int from, int to) {
    for (int g = from; g < to; ++g) {
      BackwardGroup(g, x, x_step, parameters, dout, dout_step, dx, dx_step, add, *lane_[static_cast<size_t>(l)], seed,
                    exact);
    }
  });

  const auto sum_lanes = [&](float* to, int64_t size, Buffer<float> Lane::* part) {
    for (int64_t i = 0; i < size; ++i) {
      float sum = 0.0f;
      for (Lane* lane : lane_) sum += (lane->*part)[i];
      to[i] = sum;
    }
  };
  sum_lanes(gradients[kMove], c, &Lane::d_move);
  sum_lanes(gradients[kMix], c, &Lane::d_mix);
  sum_lanes(gradients[kReduce], static_cast<int64_t>(c) * squeezed, &Lane::d_reduce);
  sum_lanes(gradients[kReduceBias], squeezed, &Lane::d_reduce_bias);
  sum_lanes(gradients[kExpand], static_cast<int64_t>(c) * squeezed, &Lane::d_expand);
  sum_lanes(gradients[kExpandBias], c, &Lane::d_expand_bias);
  if (s_.attention) sum_lanes(gradients[kResidual], c, &Lane::d_residual);
  const int panels = c / kPanel;
  ForLanes(taps_ * panels, [&](int, int from, int to) {
    for (int block = from; block < to; ++block) {  // a tap and a panel of inputs
      for (int q = 0; q < panels; ++q) {
        for (int i = 0; i < kPanel; ++i) {
          const int64_t at = ((static_cast<int64_t>(block) * panels + q) * kPanel + i) * kPanel;
          float* row = gradients[kKernel] + (static_cast<int64_t>(block) * kPanel + i) * c + q * kPanel;
          for (int j = 0; j < kPanel; ++j) {
            float sum = 0.0f;
            for (Lane* lane : lane_) sum += lane->d_kernel[at + j];
            row[j] = sum;
          }
        }
      }
    }
  });
}

void Unit::BackwardGroup(int group, const float* x, int64_t x_step, const float* const* parameters, const float* dout,
                         int64_t dout_step, float* dx, int64_t dx_step, bool add, Lane& lane, uint64_t seed,
                         bool exact) {
  const int c = s_.channels, first = group * group_, images = std::min(group_, s_.batch - first);
  const int rows_out = images * out_, rows_in = images * in_;
  const float *scale = scale1_.data(), *shift = shift1_.data(), *slope = parameters[kSlope], *mix = parameters[kMix];
  const float share = 1.0f / static_cast<float>(out_), share_in = 1.0f / static_cast<float>(in_);
  const float *alpha = alpha_.data(), *beta = beta_.data(), *kappa = kappa_.data();
  const float *a1 = a1_.data(), *b1 = b1_.data(), *k1 = k1_.data();
  float* dy = lane.dy.data();
  for (int k = 0; k < images; ++k) {
    const int image = first + k;
    const int64_t at = static_cast<int64_t>(image) * c;
    const float* gate = &gate_[at];
    float* e = lane.a.data();
    for (int i = 0; i < c; ++i) e[i] = (1.0f - mix[i]) * dmixed_[at + i] * share;
    const int16_t* y = &y_[static_cast<int64_t>(image) * out_ * c];
    const float* d = dout + static_cast<int64_t>(image) * out_ * dout_step;
    int64_t step;
    const float* residual = Residual(image, x, x_step, &step);
    for (int o = 0; o < out_; ++o) {
      const int row = k * out_ + o;
      const int16_t* v = y + static_cast<int64_t>(o) * c;
      const float* g = d + o * dout_step;
      const float* r = residual + o * step;
      float* through = s_.attention ? &lane.d_through[static_cast<int64_t>(row) * c] : nullptr;
      for (int q = 0; q < c; q += kPanel) {
        float* to = dy + (static_cast<int64_t>(q / kPanel) * rows_out + row) * kPanel;
        for (int j = 0; j < kPanel; j += kLanes) {
          const int i = q + j;
          const Floats value = Load(v + i), a = Load(slope + i), passed = Load(gate + i), d_out = Load(g + i);
          const Floats p = Load(scale + i) * value + Load(shift + i), z = LeakyMax(p, a);
          const Floats factor = s_.attention ? passed * Load(r + i) : passed;
          const Floats dv = Load(alpha + i) * d_out + Load(beta + i) + Load(kappa + i) * (factor * z);
          const Floats dz = dv * factor + Load(e + i);
          const Floats dp = p > 0.0f ? dz : a * dz;
          Store(to + j, Load(a1 + i) * dp + Load(b1 + i) + Load(k1 + i) * value);
          if (through) Store(through + i, d_out + dv * passed * z);
        }
      }
    }
  }

  if (lane.rows_images != images) {
    lane.rows_images = images;
    lane.rows.assign(static_cast<size_t>(taps_), {});
    for (int t = 0; t < taps_; ++t) {
      for (int k = 0; k < images; ++k) {
        for (const Pair& p : pairs_[static_cast<size_t>(t)]) {
          lane.rows[static_cast<size_t>(t)].push_back({k * in_ + p.in, k * out_ + p.out});
        }
      }
    }
  }
#if defined(__AVX2__)
  if (!exact) {
    ProductsInteger(images, first, lane, seed + static_cast<uint64_t>(group));
  } else {
    ProductsFloat(images, first, lane);
  }
#else
  (void)seed;
  (void)exact;
  ProductsFloat(images, first, lane);
#endif

  // dx: through the sign, through the mean that the gate reads, and along the residual.
  const int width = s_.width / s_.stride;
  const float* slope_in = parameters[kResidual];
  for (int k = 0; k < images; ++k) {
    const int image = first + k;
    const int64_t at = static_cast<int64_t>(image) * c;
    float* e = lane.a.data();
    float* d_move = lane.d_move.data();
    float* d_residual = lane.d_residual.data();
    for (int i = 0; i < c; ++i) e[i] = mix[i] * dmixed_[at + i] * share_in;
    for (int p = 0; p < in_; ++p) {
      const int row = k * in_ + p;
      const int o = s_.stride == 1 ? p : p / s_.width / 2 * width + p % s_.width / 2;
      const float* through = s_.attention ? &lane.d_through[(static_cast<int64_t>(k) * out_ + o) * c]
                                          : dout + (static_cast<int64_t>(image) * out_ + o) * dout_step;
      const float quarter = s_.stride == 2 ? 0.25f : 1.0f;
      const uint64_t* passes = &passes_[(static_cast<int64_t>(image) * in_ + p) * words_];
      const float* v = x + (static_cast<int64_t>(image) * in_ + p) * x_step;
      float* to = dx + (static_cast<int64_t>(image) * in_ + p) * dx_step;
      for (int q = 0; q < c; q += kPanel) {
        float mask[kPanel];
        Spread(passes[q / 64] >> (q % 64), kPanel, 1.0f, 0.0f, mask);
        const float* from = &lane.dx[(static_cast<int64_t>(q / kPanel) * rows_in + row) * kPanel];
        for (int j = 0; j < kPanel; j += kLanes) {
          const int i = q + j;
          const Floats sign = Load(from + j) * Load(mask + j);
          Add(d_move + i, sign);
          Floats d = Load(through + i) * quarter;
          if (s_.attention) {
            const Floats input = Load(v + i);
            Add(d_residual + i, d * (input > 0.0f ? Floats{} : input));
            d = input > 0.0f ? d : Load(slope_in + i) * d;
          }
          const Floats sum = sign + d + Load(e + i);
          Store(to + i, add ? Load(to + i) + sum : sum);
        }
      }
    }
  }
}

namespace {

// dx[in] += dy[out, k] weights[k, 16] for k up to `depth`, of kCount pairs of rows.
template <int kCount>
inline void MultiplyRows(const float* const* dy, const float* weights, int depth, float* const* dx) {
  Floats sums[kCount][kVectors];
  for (int m = 0; m < kCount; ++m) {
    for (int v = 0; v < kVectors; ++v) sums[m][v] = Load(dx[m] + v * kLanes);
  }
  for (int k = 0; k < depth; ++k) {
    Floats w[kVectors];
    for (int v = 0; v < kVectors; ++v) w[v] = Load(weights + k * kPanel + v * kLanes);
    for (int m = 0; m < kCount; ++m) {
      const Floats d = Splat(dy[m][k]);
      for (int v = 0; v < kVectors; ++v) sums[m][v] += d * w[v];
    }
  }
  for (int m = 0; m < kCount; ++m) {
    for (int v = 0; v < kVectors; ++v) Store(dx[m] + v * kLanes, sums[m][v]);
  }
}

}  // namespace

void Unit::ProductsFloat(int images, int first, Lane& lane) {
  const int c = s_.channels, panels = c / kPanel, rows_in = images * in_, rows_out = images * out_;
  // Signs of the inputs as floats.
  for (int row = 0; row < rows_in; ++row) {
    const uint64_t* bits = &bits_[(static_cast<int64_t>(first) * in_ + row) * words_];
    for (int q = 0; q < c; q += kPanel) {
      Spread(bits[q / 64] >> (q % 64), kPanel, 1.0f, -1.0f,
             &lane.signs[(static_cast<int64_t>(q / kPanel) * rows_in + row) * kPanel]);
    }
  }
  std::memset(lane.dx.data(), 0, sizeof(float) * static_cast<size_t>(rows_in) * static_cast<size_t>(c));
  constexpr int kTogether = 6;
  for (int t = 0; t < taps_; ++t) {
    const std::vector<Row>& rows = lane.rows[static_cast<size_t>(t)];
    const int count = static_cast<int>(rows.size());
    for (int i = 0; i < panels; ++i) {
      float* dx = &lane.dx[static_cast<int64_t>(i) * rows_in * kPanel];
      const float* weights = &weight_signs_[(static_cast<int64_t>(t) * panels + i) * c * kPanel];
      for (int o = 0; o < panels; ++o) {
        const float* dy = &lane.dy[static_cast<int64_t>(o) * rows_out * kPanel];
        const float* w = weights + static_cast<int64_t>(o) * kPanel * kPanel;
        for (int r = 0; r < count; r += kTogether) {
          const float* from[kTogether];
          float* to[kTogether];
          const int some = std::min(kTogether, count - r);
          for (int m = 0; m < some; ++m) {
            from[m] = dy + static_cast<int64_t>(rows[static_cast<size_t>(r + m)].out) * kPanel;
            to[m] = dx + static_cast<int64_t>(rows[static_cast<size_t>(r + m)].in) * kPanel;
          }
          switch (some) {
            case 6: MultiplyRows<6>(from, w, kPanel, to); break;
            case 5: MultiplyRows<5>(from, w, kPanel, to); break;
            case 4: MultiplyRows<4>(from, w, kPanel, to); break;
            case 3: MultiplyRows<3>(from, w, kPanel, to); break;
            case 2: MultiplyRows<2>(from, w, kPanel, to); break;
            default: MultiplyRows<1>(from, w, kPanel, to); break;
          }
        }
      }
      // The kernel's gradient: rows are summed over, 4 inputs by 16 outputs at a time.
      const float* signs = &lane.signs[static_cast<int64_t>(i) * rows_in * kPanel];
      for (int o = 0; o < panels; ++o) {
        const float* dy = &lane.dy[static_cast<int64_t>(o) * rows_out * kPanel];
        float* to = &lane.d_kernel[((static_cast<int64_t>(t) * panels + i) * panels + o) * kPanel * kPanel];
        for (int m = 0; m < kPanel; m += 4) {
          Floats sums[4][kVectors];
          for (int a = 0; a < 4; ++a) {
            for (int v = 0; v < kVectors; ++v) sums[a][v] = Load(to + (m + a) * kPanel + v * kLanes);
          }
          for (const Row& row : rows) {
            const float* d = dy + static_cast<int64_t>(row.out) * kPanel;
            const float* x = signs + static_cast<int64_t>(row.in) * kPanel + m;
            Floats g[kVectors];
            for (int v = 0; v < kVectors; ++v) g[v] = Load(d + v * kLanes);
            for (int a = 0; a < 4; ++a) {
              const Floats s = Splat(x[a]);
              for (int v = 0; v < kVectors; ++v) sums[a][v] += s * g[v];
            }
          }
          for (int a = 0; a < 4; ++a) {
            for (int v = 0; v < kVectors; ++v) Store(to + (m + a) * kPanel + v * kLanes, sums[a][v]);
          }
        }
      }
    }
  }
}

#if defined(__AVX2__)
namespace {

// Sixteen bits a lane are summed up to here: 128 times twice 127 stays below 2^15.
constexpr int kStepsPerFlush = 128;

inline __m256i LoadBytes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

inline __m256i SplatFour(const void* p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}

// dx[in] += scale (2 weights dy - sum of dy) for 16 inputs, of kCount pairs of rows; `quads`: of output channels.
template <int kCount>
inline void MultiplyBytes(const int8_t* const* dy, const float* scales, const int32_t* sums, const uint8_t* weights,
                          int64_t next_weights, int quads, float* const* dx) {
  const __m256i one = _mm256_set1_epi16(1);
  for (int q = 0; q < quads; q += kStepsPerFlush) {
    const int end = std::min(quads, q + kStepsPerFlush);
    __m256i totals[kCount][2];
    for (int m = 0; m < kCount; ++m) totals[m][0] = totals[m][1] = _mm256_setzero_si256();
    for (int k = q; k < end; ++k) {
      const __m256i w0 = LoadBytes(weights + 32 * k), w1 = LoadBytes(weights + next_weights + 32 * k);
      for (int m = 0; m < kCount; ++m) {
        const __m256i d = SplatFour(dy[m] + 4 * k);
        totals[m][0] = _mm256_add_epi16(totals[m][0], _mm256_maddubs_epi16(w0, d));
        totals[m][1] = _mm256_add_epi16(totals[m][1], _mm256_maddubs_epi16(w1, d));
      }
    }
    for (int m = 0; m < kCount; ++m) {
      const __m256 twice = _mm256_set1_ps(2.0f * scales[m]);
      const __m256 sum = _mm256_set1_ps(q == 0 ? scales[m] * static_cast<float>(sums[m]) : 0.0f);
      for (int v = 0; v < 2; ++v) {
        const __m256 total = _mm256_cvtepi32_ps(_mm256_madd_epi16(totals[m][v], one));
        const __m256 old = _mm256_sub_ps(_mm256_loadu_ps(dx[m] + 8 * v), sum);
        _mm256_storeu_ps(dx[m] + 8 * v, _mm256_fmadd_ps(total, twice, old));
      }
    }
  }
}

// Numbers in [0, 1), eight at a time (a multiplicative congruential sequence in each lane, upper bits).
struct Dither {
  explicit Dither(uint64_t seed) {
    alignas(32) uint32_t start[8];
    for (uint32_t& s : start) {
      seed += 0x9E3779B97F4A7C15ull;  // splitmix64
      uint64_t z = seed;
      z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
      z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
      s = static_cast<uint32_t>(z >> 32) | 1u;
    }
    state = _mm256_load_si256(reinterpret_cast<const __m256i*>(start));
  }
  __m256 Next() {
    state = _mm256_add_epi32(_mm256_mullo_epi32(state, _mm256_set1_epi32(1664525)), _mm256_set1_epi32(1013904223));
    const __m256i mantissa = _mm256_or_si256(_mm256_srli_epi32(state, 9), _mm256_set1_epi32(0x3f800000));
    return _mm256_sub_ps(_mm256_castsi256_ps(mantissa), _mm256_set1_ps(1.0f));
  }
  __m256i state;
};

}  // namespace

// The gradient in eight bits: for dx with a scale for each pixel, rounded to the nearest; for the kernel, whose sums
// run over pixels and images, with a scale for each channel and group of images, rounded up or down at random so that
// the expectation is exact.
void Unit::ProductsInteger(int images, int first, Lane& lane, uint64_t seed) {
  const int c = s_.channels, panels = c / 8, rows_in = images * in_, rows_out = images * out_, quads = (images + 3) / 4;
  const __m256 sign = _mm256_set1_ps(-0.0f);
  const auto dy_at = [&](int row, int channel) {
    return lane.dy.data() + (static_cast<int64_t>(channel / kPanel) * rows_out + row) * kPanel + channel % kPanel;
  };
  float* largest = lane.largest.data();
  std::fill(largest, largest + c, 0.0f);
  for (int row = 0; row < rows_out; ++row) {
    __m256 most = _mm256_setzero_ps();
    for (int i = 0; i < c; i += 8) {
      const __m256 v = _mm256_andnot_ps(sign, _mm256_loadu_ps(dy_at(row, i)));
      most = _mm256_max_ps(most, v);
      _mm256_storeu_ps(largest + i, _mm256_max_ps(v, _mm256_loadu_ps(largest + i)));
    }
    alignas(32) float each[8];
    _mm256_store_ps(each, most);
    const float top = *std::max_element(each, each + 8);
    const float scale = top > 0.0f ? 127.0f / top : 0.0f;
    lane.row_scale[row] = top / 127.0f;
    __m256i sum = _mm256_setzero_si256();
    int8_t* to = &lane.by_row[static_cast<int64_t>(row) * c];
    for (int i = 0; i < c; i += 16) {
      const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(dy_at(row, i)), _mm256_set1_ps(scale)));
      const __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(dy_at(row, i + 8)), _mm256_set1_ps(scale)));
      sum = _mm256_add_epi32(sum, _mm256_add_epi32(low, high));
      // Packing works within halves: 0-3 8-11 4-7 12-15, put right by the permutation.
      const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
      const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), bytes);
    }
    alignas(32) int32_t sums[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(sums), sum);
    int32_t total = 0;
    for (int32_t s : sums) total += s;
    lane.row_sum[row] = total;
  }

  Dither dither(seed);
  for (int i = 0; i < c; i += 8) {
    alignas(32) float scales[8];
    for (int j = 0; j < 8; ++j) scales[j] = largest[i + j] > 0.0f ? 126.0f / largest[i + j] : 0.0f;
    const __m256 scale = _mm256_load_ps(scales);
    for (int o = 0; o < out_; ++o) {
      __m256i pixel = _mm256_setzero_si256();
      for (int q = 0; q < quads; ++q) {
        __m256i four = _mm256_setzero_si256();
        for (int k = 0; k < 4 && 4 * q + k < images; ++k) {
          const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(dy_at((4 * q + k) * out_ + o, i)), scale);
          const __m256i n = _mm256_cvttps_epi32(_mm256_floor_ps(_mm256_add_ps(v, dither.Next())));
          pixel = _mm256_add_epi32(pixel, n);
          four = _mm256_or_si256(four, _mm256_slli_epi32(_mm256_and_si256(n, _mm256_set1_epi32(255)), 8 * k));
        }
        _mm256_storeu_si256(
            reinterpret_cast<__m256i*>(&lane.by_channel[((static_cast<int64_t>(i / 8) * out_ + o) * quads + q) * 32]),
            four);
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(&lane.pixel_sum[static_cast<int64_t>(o) * c + i]), pixel);
    }
  }

  const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  for (int p = 0; p < in_; ++p) {
    for (int q = 0; q < quads; ++q) {
      for (int i = 0; i < panels; ++i) {
        __m256i four = _mm256_setzero_si256();
        for (int k = 0; k < 4 && 4 * q + k < images; ++k) {
          const uint64_t word = bits_[((static_cast<int64_t>(first) + 4 * q + k) * in_ + p) * words_ + i / 8];
          const __m256i b = _mm256_set1_epi32(static_cast<int>((word >> (i % 8 * 8)) & 255));
          const __m256i set = _mm256_cmpeq_epi32(_mm256_and_si256(b, each), each);
          four = _mm256_or_si256(four, _mm256_and_si256(set, _mm256_set1_epi32(1 << (8 * k))));
        }
        _mm256_storeu_si256(
            reinterpret_cast<__m256i*>(&lane.positive[((static_cast<int64_t>(i) * in_ + p) * quads + q) * 32]), four);
      }
    }
  }

  std::memset(lane.dx.data(), 0, sizeof(float) * static_cast<size_t>(rows_in) * static_cast<size_t>(c));
  constexpr int kTogether = 6;
  const int64_t next_weights = static_cast<int64_t>(c) / 4 * 32;
  const __m256i one = _mm256_set1_epi16(1);
  for (int t = 0; t < taps_; ++t) {
    const std::vector<Row>& rows = lane.rows[static_cast<size_t>(t)];
    const int count = static_cast<int>(rows.size());
    for (int i = 0; i < c; i += kPanel) {
      float* dx = &lane.dx[static_cast<int64_t>(i) * rows_in];
      const uint8_t* weights = &weight_bytes_[(static_cast<int64_t>(t) * c / 8 + i / 8) * next_weights];
      for (int r = 0; r < count; r += kTogether) {
        const int8_t* from[kTogether];
        float* to[kTogether];
        float scales[kTogether];
        int32_t sums[kTogether];
        const int some = std::min(kTogether, count - r);
        for (int m = 0; m < some; ++m) {
          const Row& row = rows[static_cast<size_t>(r + m)];
          from[m] = &lane.by_row[static_cast<int64_t>(row.out) * c];
          to[m] = dx + static_cast<int64_t>(row.in) * kPanel;
          scales[m] = lane.row_scale[row.out];
          sums[m] = lane.row_sum[row.out];
        }
        switch (some) {
          case 6: MultiplyBytes<6>(from, scales, sums, weights, next_weights, c / 4, to); break;
          case 5: MultiplyBytes<5>(from, scales, sums, weights, next_weights, c / 4, to); break;
          case 4: MultiplyBytes<4>(from, scales, sums, weights, next_weights, c / 4, to); break;
          case 3: MultiplyBytes<3>(from, scales, sums, weights, next_weights, c / 4, to); break;
          case 2: MultiplyBytes<2>(from, scales, sums, weights, next_weights, c / 4, to); break;
          default: MultiplyBytes<1>(from, scales, sums, weights, next_weights, c / 4, to); break;
        }
      }
    }

    const std::vector<Pair>& pairs = pairs_[static_cast<size_t>(t)];
    int32_t* tap_sum = lane.tap_sum.data();
    std::fill(tap_sum, tap_sum + c, 0);
    for (const Pair& pair : pairs) {
      const int32_t* pixel = &lane.pixel_sum[static_cast<int64_t>(pair.out) * c];
      for (int i = 0; i < c; ++i) tap_sum[i] += pixel[i];
    }
    const int at_once = std::max(kStepsPerFlush / quads, 1);  // pixels
    for (int i = 0; i < c; i += 4) {
      const uint8_t* x = &lane.positive[static_cast<int64_t>(i / 8) * in_ * quads * 32 + i % 8 * 4];
      for (int o = 0; o < c; o += kPanel) {
        const int8_t* d0 = &lane.by_channel[static_cast<int64_t>(o / 8) * out_ * quads * 32];
        const int8_t* d1 = d0 + static_cast<int64_t>(out_) * quads * 32;
        __m256i* block = reinterpret_cast<__m256i*>(lane.block.data());
        for (int m = 0; m < 8; ++m) _mm256_store_si256(block + m, _mm256_setzero_si256());
        for (size_t from = 0; from < pairs.size(); from += static_cast<size_t>(at_once)) {
          const size_t end = std::min(pairs.size(), from + static_cast<size_t>(at_once));
          __m256i totals[4][2];
          for (auto& total : totals) total[0] = total[1] = _mm256_setzero_si256();
          for (size_t p = from; p < end; ++p) {
            const uint8_t* a = x + static_cast<int64_t>(pairs[p].in) * quads * 32;
            const int64_t b = static_cast<int64_t>(pairs[p].out) * quads * 32;
            for (int q = 0; q < quads; ++q) {
              const __m256i g0 = LoadBytes(d0 + b + 32 * q), g1 = LoadBytes(d1 + b + 32 * q);
              for (int m = 0; m < 4; ++m) {
                const __m256i s = SplatFour(a + 32 * q + 4 * m);
                totals[m][0] = _mm256_add_epi16(totals[m][0], _mm256_maddubs_epi16(s, g0));
                totals[m][1] = _mm256_add_epi16(totals[m][1], _mm256_maddubs_epi16(s, g1));
              }
            }
          }
          for (int m = 0; m < 8; ++m) {
            const __m256i sum = _mm256_madd_epi16(totals[m / 2][m % 2], one);
            _mm256_store_si256(block + m, _mm256_add_epi32(_mm256_load_si256(block + m), sum));
          }
        }
        float* to = &lane.d_kernel[((static_cast<int64_t>(t) * (c / kPanel) + i / kPanel) * (c / kPanel) + o / kPanel) *
                                       kPanel * kPanel +
                                   i % kPanel * kPanel];
        for (int m = 0; m < 4; ++m) {
          for (int v = 0; v < 2; ++v) {
            const __m256i sum = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tap_sum + o + 8 * v));
            const __m256i twice = _mm256_slli_epi32(_mm256_load_si256(block + 2 * m + v), 1);
            const __m256 value = _mm256_cvtepi32_ps(_mm256_sub_epi32(twice, sum));
            const __m256 scale = _mm256_mul_ps(_mm256_loadu_ps(largest + o + 8 * v), _mm256_set1_ps(1.0f / 126.0f));
            float* place = to + m * kPanel + 8 * v;
            _mm256_storeu_ps(place, _mm256_fmadd_ps(value, scale, _mm256_loadu_ps(place)));
          }
        }
      }
    }
  }
}
#endif

}  // namespace bdd
