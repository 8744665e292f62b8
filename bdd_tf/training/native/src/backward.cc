// The backward of a unit in three passes over the images; unit.h defines the symbols. A "d" in front of a symbol is
// the gradient of the loss with respect to it, and dout is given.
//
//   Pass 1: sums of dout and dout v over each image. BN2's gradient du is then known (batch_norm.h).
//   Pass 2: the gate's gradient d gate = sum du v, back to d m; then dz = gate du [r] + (1 - mix) dm / pixels,
//           dp = dz PReLU'(p), and the sums of dp and dp y. BN1's gradient is then known.
//   Pass 3: dy through BN1; the convolution's gradients ds = conv^T(dy, sign(W)) and dW = sum s dy; and
//           dx = ds [|x + move| <= 1.5] + mix dm / pixels + the gradient of r.
//
// sign() has no useful derivative. The straight-through estimator takes it as 1 where |x + move| <= 1.5 and as 0
// elsewhere. For the weights it is always 1, because their constraint keeps them within 1.5.
#include <algorithm>
#include <cmath>

#include "sign_bits.h"
#include "simd.h"
#include "unit.h"

namespace bdd {

void Unit::Backward(const BackwardArguments& args) {
  for (const auto& context : contexts_) ClearSums(*context);

  ForItems(spec_.batch, [&](int image, ThreadContext&) { SumOutputGradient(image, args); });
  SetNorm2Gradient(args);

  ForItems(spec_.batch, [&](int image, ThreadContext& context) {
    BackwardGate(image, args.parameters, context);
    SumNorm1Gradient(image, args, context);
  });
  SetNorm1Gradient(args);

  ForItems((spec_.batch + kTileImages - 1) / kTileImages, [&](int tile, ThreadContext& context) {
    const int first = tile * kTileImages, images = std::min(kTileImages, spec_.batch - first);
    for (int k = 0; k < images; ++k) WriteConvGradient(k, first, args, context);
    SignGradient(context, args.exact != 0);
    KernelGradient(first, images, context, args.seed + static_cast<uint64_t>(tile), args.exact != 0);
    WriteInputGradient(first, images, args, context);
  });
  SumGradients(args.gradients);
}

void Unit::ClearSums(ThreadContext& context) {
  for (Buffer<double>* b : {&context.sum_dp, &context.sum_dp_y, &context.d_slope}) Zero(*b);
  for (Buffer<float>* b : {&context.d_move, &context.d_residual_slope, &context.d_mix, &context.d_reduce,
                           &context.d_reduce_bias, &context.d_expand, &context.d_expand_bias, &context.d_kernel}) {
    Zero(*b);
  }
}

// Pass 1: sums of dout and dout v over the pixels of an image.
void Unit::SumOutputGradient(int image, const BackwardArguments& args) {
  const int c = spec_.channels;
  const int64_t at = static_cast<int64_t>(image) * c;
  const float *scale = norm1_.scale.data(), *shift = norm1_.shift.data(), *slope = args.parameters[kSlope];
  const int16_t* y = &y_[static_cast<int64_t>(image) * out_pixels_ * c];
  float *sum_dout = &sum_dout_[at], *sum_dout_v = &sum_dout_v_[at];
  std::fill(sum_dout, sum_dout + c, 0.0f);
  std::fill(sum_dout_v, sum_dout_v + c, 0.0f);
  const FeatureMap<const float> residual = Residual(image, args.x);
  for (int o = 0; o < out_pixels_; ++o, y += c) {
    const float* dout = args.dout[static_cast<int64_t>(image) * out_pixels_ + o];
    const float* r = residual[o];
    for (int i = 0; i < c; i += kLanes) {
      const Floats z = PRelu(Load(scale + i) * Load(y + i) + Load(shift + i), Load(slope + i));
      const Floats d = Load(dout + i);
      Add(sum_dout + i, d);
      Add(sum_dout_v + i, d * (spec_.attention ? z * Load(r + i) : z));
    }
  }
}

// The sums over the batch follow from those of each image: sum dout u = gate sum dout v.
void Unit::SetNorm2Gradient(const BackwardArguments& args) {
  const int c = spec_.channels, n = spec_.batch;
  const double count = static_cast<double>(n) * out_pixels_;
  for (int i = 0; i < c; ++i) {
    double sum_dout = 0, sum_dout_u = 0;
    for (int k = 0; k < n; ++k) {
      const int64_t at = static_cast<int64_t>(k) * c + i;
      sum_dout += sum_dout_[at];
      sum_dout_u += static_cast<double>(gate_[at]) * sum_dout_v_[at];
    }
    args.gradients[kGamma2][i] =
        norm2_gradient_.Set(i, norm2_, args.parameters[kGamma2][i], sum_dout, sum_dout_u, count);
    args.gradients[kBeta2][i] = static_cast<float>(sum_dout);
  }
}

// Pass 2: from d gate = sum du v, which the sums of the passes before give, through both layers of the gate to dm.
void Unit::BackwardGate(int image, const float* const* parameters, ThreadContext& context) {
  const int c = spec_.channels;
  const int64_t at = static_cast<int64_t>(image) * c;
  const float *reduce = parameters[kReduce], *expand = parameters[kExpand];
  const float share = 1.0f / static_cast<float>(out_pixels_);
  const float *gate = &gate_[at], *mixed = &mixed_[at], *hidden = &hidden_[static_cast<int64_t>(image) * squeezed_];
  const BatchNormGradient& du = norm2_gradient_;
  float* d_expand_out = context.vectors[0].data();  // gradient in front of the sigmoid
  float* d_hidden = context.d_hidden.data();
  for (int i = 0; i < c; ++i) {
    const float d_gate = du.dout_factor[i] * sum_dout_v_[at + i] + du.constant[i] * sum_v_[at + i] +
                         du.input_factor[i] * gate[i] * sum_v2_[at + i];
    d_expand_out[i] = d_gate * gate[i] * (1.0f - gate[i]);
    context.d_expand_bias[i] += d_expand_out[i];
  }
  for (int j = 0; j < squeezed_; ++j) {
    const float h = hidden[j];
    d_hidden[j] = 0.0f;
    if (h <= 0.0f) continue;
    const float* w = expand + static_cast<int64_t>(j) * c;
    float* dw = &context.d_expand[static_cast<int64_t>(j) * c];
    Floats sum{};
    for (int i = 0; i < c; i += kLanes) {
      const Floats v = Load(d_expand_out + i);
      sum += Load(w + i) * v;
      Store(dw + i, Load(dw + i) + h * v);
    }
    float total = 0.0f;
    for (int i = 0; i < kLanes; ++i) total += sum[i];
    d_hidden[j] = total;
    context.d_reduce_bias[j] += total;
  }
  float* d_mixed = &d_mixed_[at];
  for (int i = 0; i < c; ++i) {
    const float* w = reduce + static_cast<int64_t>(i) * squeezed_;
    float* dw = &context.d_reduce[static_cast<int64_t>(i) * squeezed_];
    float sum = 0.0f;
    const float m = mixed[i];
    for (int j = 0; j < squeezed_; ++j) {
      sum += w[j] * d_hidden[j];
      dw[j] += m * d_hidden[j];
    }
    d_mixed[i] = sum;
    context.d_mix[i] += sum * (mean_x_[at + i] - sum_z_[at + i] * share);
  }
}

// Pass 2: sums of dp, dp y and dz min(p, 0), the last being PReLU's slope gradient. du is BN2's gradient; with
// attention v = z r, so that dz = du gate r and the part through the mean of z is added:
// dz = du gate [r] + (1 - mix) dm / pixels.
void Unit::SumNorm1Gradient(int image, const BackwardArguments& args, ThreadContext& context) const {
  const int c = spec_.channels;
  const int64_t at = static_cast<int64_t>(image) * c;
  const float *scale = norm1_.scale.data(), *shift = norm1_.shift.data(), *slope = args.parameters[kSlope];
  const float *mix = args.parameters[kMix], *gate = gate_.data() + at;
  const float *dout_factor = norm2_gradient_.dout_factor.data(), *constant = norm2_gradient_.constant.data(),
              *input_factor = norm2_gradient_.input_factor.data();
  const float share = 1.0f / static_cast<float>(out_pixels_);
  float *dz_mean = context.vectors[0].data(), *sum_dp = context.vectors[1].data(),
        *sum_dp_y = context.vectors[2].data(), *sum_slope = context.vectors[3].data();
  for (int i = 0; i < c; ++i) dz_mean[i] = (1.0f - mix[i]) * d_mixed_[at + i] * share;
  std::fill(sum_dp, sum_dp + c, 0.0f);
  std::fill(sum_dp_y, sum_dp_y + c, 0.0f);
  std::fill(sum_slope, sum_slope + c, 0.0f);
  const int16_t* y_pixel = y_.data() + static_cast<int64_t>(image) * out_pixels_ * c;
  const FeatureMap<const float> residual = Residual(image, args.x);
  for (int o = 0; o < out_pixels_; ++o, y_pixel += c) {
    const float* dout = args.dout[static_cast<int64_t>(image) * out_pixels_ + o];
    const float* r = residual[o];
    for (int i = 0; i < c; i += kLanes) {
      const Floats y = Load(y_pixel + i), a = Load(slope + i);
      const Floats p = Load(scale + i) * y + Load(shift + i);
      const Floats factor = spec_.attention ? Load(gate + i) * Load(r + i) : Load(gate + i);
      const Floats du =
          Load(dout_factor + i) * Load(dout + i) + Load(constant + i) + Load(input_factor + i) * (factor * PRelu(p, a));
      const Floats dz = du * factor + Load(dz_mean + i);
      const Floats dp = p > 0.0f ? dz : a * dz;
      Add(sum_dp + i, dp);
      Add(sum_dp_y + i, dp * y);
      Add(sum_slope + i, dz * (p > 0.0f ? Floats{} : p));
    }
  }
  for (int i = 0; i < c; ++i) {
    context.sum_dp[i] += static_cast<double>(sum_dp[i]);
    context.sum_dp_y[i] += static_cast<double>(sum_dp_y[i]);
    context.d_slope[i] += static_cast<double>(sum_slope[i]);
  }
}

void Unit::SetNorm1Gradient(const BackwardArguments& args) {
  const double count = static_cast<double>(spec_.batch) * out_pixels_;
  for (int i = 0; i < spec_.channels; ++i) {
    double sum_dp = 0, sum_dp_y = 0, slope = 0;
    for (const auto& context : contexts_) {
      sum_dp += context->sum_dp[i];
      sum_dp_y += context->sum_dp_y[i];
      slope += context->d_slope[i];
    }
    args.gradients[kGamma1][i] = norm1_gradient_.Set(i, norm1_, args.parameters[kGamma1][i], sum_dp, sum_dp_y, count);
    args.gradients[kBeta1][i] = static_cast<float>(sum_dp);
    args.gradients[kSlope][i] = static_cast<float>(slope);
  }
}

// Pass 3, before the convolution's gradients: dy of image `first + k`, the k-th of its tile, and the largest |dy| of
// each of its channels. With attention also the gradient of the residual, dr = dout + du gate z.
void Unit::WriteConvGradient(int k, int first, const BackwardArguments& args, ThreadContext& context) const {
  const int c = spec_.channels, image = first + k;
  const int64_t at = static_cast<int64_t>(image) * c;
  const float *scale = norm1_.scale.data(), *shift = norm1_.shift.data(), *slope = args.parameters[kSlope];
  const float *mix = args.parameters[kMix], *gate = gate_.data() + at;
  const float *dout_factor2 = norm2_gradient_.dout_factor.data(), *constant2 = norm2_gradient_.constant.data(),
              *input_factor2 = norm2_gradient_.input_factor.data();
  const float *dout_factor1 = norm1_gradient_.dout_factor.data(), *constant1 = norm1_gradient_.constant.data(),
              *input_factor1 = norm1_gradient_.input_factor.data();
  const float share = 1.0f / static_cast<float>(out_pixels_);
  float* dz_mean = context.vectors[0].data();
  for (int i = 0; i < c; ++i) dz_mean[i] = (1.0f - mix[i]) * d_mixed_[at + i] * share;
  float* dy_max = &context.dy_max[static_cast<int64_t>(k) * c];
  std::fill(dy_max, dy_max + c, 0.0f);
  const int16_t* y_pixel = y_.data() + static_cast<int64_t>(image) * out_pixels_ * c;
  const FeatureMap<const float> residual = Residual(image, args.x);
  for (int o = 0; o < out_pixels_; ++o, y_pixel += c) {
    const int64_t row = static_cast<int64_t>(k) * out_pixels_ + o;
    const float* dout_pixel = args.dout[static_cast<int64_t>(image) * out_pixels_ + o];
    const float* r = residual[o];
    float* dr = spec_.attention ? &context.d_residual[row * c] : nullptr;
    float* dy = &context.dy[row * c];
    for (int i = 0; i < c; i += kLanes) {
      const Floats y = Load(y_pixel + i), a = Load(slope + i), g = Load(gate + i), dout = Load(dout_pixel + i);
      const Floats p = Load(scale + i) * y + Load(shift + i), z = PRelu(p, a);
      const Floats factor = spec_.attention ? g * Load(r + i) : g;
      const Floats du = Load(dout_factor2 + i) * dout + Load(constant2 + i) + Load(input_factor2 + i) * (factor * z);
      const Floats dz = du * factor + Load(dz_mean + i);
      const Floats dp = p > 0.0f ? dz : a * dz;
      const Floats d = Load(dout_factor1 + i) * dp + Load(constant1 + i) + Load(input_factor1 + i) * y;
      Store(dy + i, d);
      const Floats size = d > 0.0f ? d : -d, largest = Load(dy_max + i);
      Store(dy_max + i, size > largest ? size : largest);
      if (dr) Store(dr + i, dout + du * g * z);
    }
  }
}

// Pass 3, after the convolution's gradients: dx of a tile, for which ds goes back from [pixel, C, image] to
// [image, pixel, C], a few pixels at a time.
void Unit::WriteInputGradient(int first, int images, const BackwardArguments& args, ThreadContext& context) const {
  const int c = spec_.channels, block = std::max(kRowFloats / c, 1);
  for (int pixel = 0; pixel < in_pixels_; pixel += block) {
    const int count = std::min(block, in_pixels_ - pixel);
    const int64_t next_image = static_cast<int64_t>(count) * c;
    for (int p = 0; p < count; ++p) {
      const float* ds = &context.ds[static_cast<int64_t>(pixel + p) * c * kTileImages];
      for (int i = 0; i < c; i += 8) {
        for (int k = 0; k < kTileImages; k += 8) {
          Transpose8x8(ds + i * kTileImages + k, kTileImages, &context.ds_rows[k * next_image + p * c + i], next_image);
        }
      }
    }
    for (int k = 0; k < images; ++k) {
      const float* dr = spec_.attention ? &context.d_residual[static_cast<int64_t>(k) * out_pixels_ * c]
                                        : args.dout[static_cast<int64_t>(first + k) * out_pixels_];
      WriteInputPixels({first + k, pixel, count}, &context.ds_rows[k * next_image],
                       {dr, spec_.attention ? c : args.dout.stride}, args, context);
    }
  }
}

// dx of a few pixels of an image is the sum of three paths: through the sign, along the residual (with attention
// through its PReLU), and through the mean that the gate reads.
void Unit::WriteInputPixels(const PixelRange& range, const float* ds, FeatureMap<const float> dr,
                            const BackwardArguments& args, ThreadContext& context) const {
  const int c = spec_.channels, width = spec_.width / spec_.stride;
  const float *slope = args.parameters[kResidualSlope], *mix = args.parameters[kMix];
  const float* d_mixed = d_mixed_.data() + static_cast<int64_t>(range.image) * c;
  const float share = 1.0f / static_cast<float>(in_pixels_), pool = spec_.stride == 2 ? 0.25f : 1.0f;
  float *d_move = context.d_move.data(), *d_slope = context.d_residual_slope.data();
  for (int p = range.first; p < range.first + range.count; ++p, ds += c) {
    const int64_t pixel = static_cast<int64_t>(range.image) * in_pixels_ + p;
    const float* dr_pixel = dr[spec_.stride == 1 ? p : p / spec_.width / 2 * width + p % spec_.width / 2];
    const uint64_t* mask_bits = ste_mask_.data() + pixel * words_;
    const float* x_pixel = args.x[pixel];
    float* dx = args.dx[pixel];
    for (int i = 0; i < c; i += kLanes) {
      const Floats through_sign = MaskByBits(Load(ds + i), mask_bits[i / 64] >> (i % 64));
      Add(d_move + i, through_sign);
      Floats along_residual = Load(dr_pixel + i) * pool;
      if (spec_.attention) {
        const Floats x = Load(x_pixel + i);
        Add(d_slope + i, along_residual * (x > 0.0f ? Floats{} : x));
        along_residual = x > 0.0f ? along_residual : Load(slope + i) * along_residual;
      }
      const Floats sum = through_sign + along_residual + Load(mix + i) * Load(d_mixed + i) * share;
      Store(dx + i, args.add ? Load(dx + i) + sum : sum);
    }
  }
}

// Adds up the partial sums of all threads.
void Unit::SumGradients(float* const* gradients) {
  const auto sum = [&](Parameter parameter, Buffer<float> ThreadContext::* part) {
    const int64_t size = ((*contexts_[0]).*part).size();
    const int chunk = 4096, chunks = static_cast<int>((size + chunk - 1) / chunk);
    ForItems(chunks, [&](int item, ThreadContext&) {
      const int64_t end = std::min(size, (item + int64_t{1}) * chunk);
      for (int64_t i = static_cast<int64_t>(item) * chunk; i < end; ++i) {
        float total = 0.0f;
        for (const auto& context : contexts_) total += ((*context).*part)[i];
        gradients[parameter][i] = total;
      }
    });
  };
  sum(kMove, &ThreadContext::d_move);
  sum(kKernel, &ThreadContext::d_kernel);
  sum(kMix, &ThreadContext::d_mix);
  sum(kReduce, &ThreadContext::d_reduce);
  sum(kReduceBias, &ThreadContext::d_reduce_bias);
  sum(kExpand, &ThreadContext::d_expand);
  sum(kExpandBias, &ThreadContext::d_expand_bias);
  if (spec_.attention) sum(kResidualSlope, &ThreadContext::d_residual_slope);
}

}  // namespace bdd
