// The forward of a unit in three passes over the images; unit.h defines the symbols.
//
//   Pass 1: s = sign(x + move), its STE mask, mean_hw(x), r, and y = conv(s, sign(W)). Then BN1's moments are known.
//   Pass 2: z = PReLU(BN1(y)), sums of z, v and v^2 over each image, the gate. Then BN2's moments are known.
//   Pass 3: out = BN2(gate v) + r, with z and v recomputed from y.
#include <algorithm>
#include <cmath>

#include "sign_bits.h"
#include "simd.h"
#include "unit.h"

namespace bdd {
namespace {

inline float Sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

}  // namespace

void Unit::Forward(const ForwardArguments& args) {
  PackWeights(args.parameters[kKernel]);
  for (const auto& context : contexts_) {
    Zero(context->sum_y);
    Zero(context->sum_y2);
  }
  ForItems((spec_.batch + conv_tile_ - 1) / conv_tile_, [&](int tile, ThreadContext& context) {
    const int first = tile * conv_tile_, images = std::min(conv_tile_, spec_.batch - first);
    for (int k = 0; k < images; ++k) BinarizeImage(first + k, args);
    ConvolveTile(first, images, context);
    for (int k = 0; k < images && args.training; ++k) AddMoments(first + k, context);
  });
  SetNorm1(args);
  ForItems(spec_.batch, [&](int image, ThreadContext&) {
    SumImage(image, args.x, args.parameters);
    ComputeGate(image, args.parameters);
  });
  SetNorm2(args);
  ForItems(spec_.batch, [&](int image, ThreadContext&) { WriteOutput(image, args); });
}

FeatureMap<const float> Unit::Residual(int image, FeatureMap<const float> x) const {
  if (!stores_residual_) return {x[static_cast<int64_t>(image) * in_pixels_], x.stride};
  return {residual_.data() + static_cast<int64_t>(image) * out_pixels_ * spec_.channels, spec_.channels};
}

// Pass 1: sign bits and STE mask of x + move, mean_hw(x), and r where it differs from x.
void Unit::BinarizeImage(int image, const ForwardArguments& args) {
  const int c = spec_.channels, width = spec_.width / spec_.stride;
  const float* move = args.parameters[kMove];
  const float* slope = args.parameters[kResidualSlope];
  float* mean = &mean_x_[static_cast<int64_t>(image) * c];
  float* residual = stores_residual_ ? &residual_[static_cast<int64_t>(image) * out_pixels_ * c] : nullptr;
  std::fill(mean, mean + c, 0.0f);
  if (residual && spec_.stride == 2) std::fill(residual, residual + static_cast<int64_t>(out_pixels_) * c, 0.0f);
  for (int p = 0; p < in_pixels_; ++p) {
    const int64_t pixel = static_cast<int64_t>(image) * in_pixels_ + p;
    const float* x = args.x[pixel];
    for (int w = 0; w < words_; ++w) {
      const int count = std::min(64, c - 64 * w);
      sign_bits_[pixel * words_ + w] = SignBits(x + 64 * w, move + 64 * w, count);
      if (args.training) ste_mask_[pixel * words_ + w] = SteMaskBits(x + 64 * w, move + 64 * w, count);
    }
    for (int i = 0; i < c; i += kLanes) Add(mean + i, Load(x + i));
    if (!residual) continue;
    const int column = p % spec_.width / spec_.stride, row = p / spec_.width / spec_.stride;
    float* r = residual + (static_cast<int64_t>(row) * width + column) * c;
    for (int i = 0; i < c; i += kLanes) {
      const Floats value = spec_.attention ? PRelu(Load(x + i), Load(slope + i)) : Load(x + i);
      Store(r + i, spec_.stride == 2 ? Load(r + i) + 0.25f * value : value);
    }
  }
  const float share = 1.0f / static_cast<float>(in_pixels_);
  for (int i = 0; i < c; ++i) mean[i] *= share;
}

// Adds an image's sums of y and y^2 to those of its thread: floats within an image, doubles across images.
void Unit::AddMoments(int image, ThreadContext& context) const {
  const int c = spec_.channels;
  const int16_t* y = y_.data() + static_cast<int64_t>(image) * out_pixels_ * c;
  float* sum = context.vectors[0].data();
  float* squares = context.vectors[1].data();
  std::fill(sum, sum + c, 0.0f);
  std::fill(squares, squares + c, 0.0f);
  for (int o = 0; o < out_pixels_; ++o, y += c) {
    for (int i = 0; i < c; i += kLanes) {
      const Floats value = Load(y + i);
      Add(sum + i, value);
      Add(squares + i, value * value);
    }
  }
  for (int i = 0; i < c; ++i) {
    context.sum_y[i] += static_cast<double>(sum[i]);
    context.sum_y2[i] += static_cast<double>(squares[i]);
  }
}

void Unit::SetNorm1(const ForwardArguments& args) {
  const float *gamma = args.parameters[kGamma1], *beta = args.parameters[kBeta1];
  const double count = static_cast<double>(spec_.batch) * out_pixels_;
  norm1_.SetAll(gamma, beta, args.statistics, args.training, count,
                [&](int i) { return SumContexts(contexts_, &ThreadContext::sum_y, &ThreadContext::sum_y2, i); });
}

// Pass 2: sums of z, v and v^2 over the pixels of an image.
void Unit::SumImage(int image, FeatureMap<const float> x, const float* const* parameters) {
  const int c = spec_.channels;
  const int64_t at = static_cast<int64_t>(image) * c;
  const float *scale = norm1_.scale.data(), *shift = norm1_.shift.data(), *slope = parameters[kSlope];
  const int16_t* y = &y_[static_cast<int64_t>(image) * out_pixels_ * c];
  float *sum_z = &sum_z_[at], *sum_v = &sum_v_[at], *sum_v2 = &sum_v2_[at];
  std::fill(sum_z, sum_z + c, 0.0f);
  std::fill(sum_v, sum_v + c, 0.0f);
  std::fill(sum_v2, sum_v2 + c, 0.0f);
  const FeatureMap<const float> residual = Residual(image, x);
  for (int o = 0; o < out_pixels_; ++o, y += c) {
    const float* r = residual[o];
    for (int i = 0; i < c; i += kLanes) {
      const Floats z = PRelu(Load(scale + i) * Load(y + i) + Load(shift + i), Load(slope + i));
      Add(sum_z + i, z);
      const Floats v = spec_.attention ? z * Load(r + i) : z;
      if (spec_.attention) Add(sum_v + i, v);
      Add(sum_v2 + i, v * v);
    }
  }
  if (!spec_.attention) std::copy(sum_z, sum_z + c, sum_v);
}

// gate = sigmoid(W_expand relu(W_reduce m + b_reduce) + b_expand) with m = mix mean(x) + (1 - mix) mean(z). Taking the
// means before mixing is exact and avoids two passes over the map.
void Unit::ComputeGate(int image, const float* const* parameters) {
  const int c = spec_.channels;
  const int64_t at = static_cast<int64_t>(image) * c;
  const float share = 1.0f / static_cast<float>(out_pixels_);
  const float *mix = parameters[kMix], *mean = &mean_x_[at], *sum_z = &sum_z_[at];
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

// BN2's moments from the sums of each image: sum u = gate sum v, sum u^2 = gate^2 sum v^2.
void Unit::SetNorm2(const ForwardArguments& args) {
  const int c = spec_.channels;
  const float *gamma = args.parameters[kGamma2], *beta = args.parameters[kBeta2];
  const double count = static_cast<double>(spec_.batch) * out_pixels_;
  norm2_.SetAll(gamma, beta, args.statistics + 2 * c, args.training, count, [&](int i) {
    Sums sums;
    for (int k = 0; k < spec_.batch; ++k) {
      const int64_t at = static_cast<int64_t>(k) * c + i;
      const double g = gate_[at];
      sums.values += g * sum_v_[at];
      sums.squares += g * g * sum_v2_[at];
    }
    return sums;
  });
}

// Pass 3: out = BN2(gate v) + r.
void Unit::WriteOutput(int image, const ForwardArguments& args) const {
  const int c = spec_.channels;
  const float *scale = norm1_.scale.data(), *shift = norm1_.shift.data(), *slope = args.parameters[kSlope];
  const float* gate = gate_.data() + static_cast<int64_t>(image) * c;
  const float *scale2 = norm2_.scale.data(), *shift2 = norm2_.shift.data();
  const int16_t* y = y_.data() + static_cast<int64_t>(image) * out_pixels_ * c;
  const FeatureMap<const float> residual = Residual(image, args.x);
  for (int o = 0; o < out_pixels_; ++o, y += c) {
    const float* r = residual[o];
    float* out = args.out[static_cast<int64_t>(image) * out_pixels_ + o];
    for (int i = 0; i < c; i += kLanes) {
      const Floats z = PRelu(Load(scale + i) * Load(y + i) + Load(shift + i), Load(slope + i));
      const Floats passed = Load(r + i), v = spec_.attention ? z * passed : z;
      Store(out + i, Load(scale2 + i) * Load(gate + i) * v + Load(shift2 + i) + passed);
    }
  }
}

}  // namespace bdd
