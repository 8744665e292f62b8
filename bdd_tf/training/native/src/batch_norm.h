// Batch normalization and its gradient as factors per channel.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "parallel.h"
#include "workspace.h"

namespace bdd {

constexpr float kEpsilon = 1e-5f;

// A feature map [N, H, W, C]: the channels of a pixel are contiguous, pixels are `stride` floats apart. A stride larger
// than C addresses a slice of the channels of a wider map.
template <typename T>
struct FeatureMap {
  T* data;
  int64_t stride;

  T* operator[](int64_t pixel) const { return data + pixel * stride; }
};

// Sums over a channel's values in a batch.
struct Sums {
  double values = 0, squares = 0;
};

// A channel's sums, of which each thread's context holds a part.
template <typename Context>
Sums SumContexts(const Contexts<Context>& contexts, Buffer<double> Context::* values, Buffer<double> Context::* squares,
                 int channel) {
  Sums sums;
  for (const auto& context : contexts) {
    sums.values += ((*context).*values)[channel];
    sums.squares += ((*context).*squares)[channel];
  }
  return sums;
}

// A batch normalization: its moments, and the same as x * scale + shift; [C] each.
struct BatchNorm {
  Buffer<float> mean, rstd, scale, shift;

  void Allocate(int64_t channels) {
    for (Buffer<float>* b : {&mean, &rstd, &scale, &shift}) bdd::Allocate(*b, channels);
  }
  // Sets all channels: in training by `count` values of each, of which `sums` returns the sums, else by `statistics`:
  // [2, C], mean and unbiased variance, which training writes.
  template <typename F>
  void SetAll(const float* gamma, const float* beta, float* statistics, bool training, double count, const F& sums) {
    const double bessel = count > 1 ? count / (count - 1) : 1.0;
    const int channels = static_cast<int>(mean.size());
    float *means = statistics, *variances = statistics + channels;
    for (int i = 0; i < channels; ++i) {
      double batch_mean = means[i], variance = variances[i];
      if (training) {
        const Sums of = sums(i);
        batch_mean = of.values / count;
        variance = std::max(of.squares / count - batch_mean * batch_mean, 0.0);
        means[i] = static_cast<float>(batch_mean);
        variances[i] = static_cast<float>(variance * bessel);
      }
      Set(i, batch_mean, variance, gamma[i], beta[i]);
    }
  }
  void Set(int channel, double batch_mean, double variance, float gamma, float beta) {
    const double inverse = 1.0 / std::sqrt(variance + kEpsilon);
    mean[channel] = static_cast<float>(batch_mean);
    rstd[channel] = static_cast<float>(inverse);
    scale[channel] = static_cast<float>(gamma * inverse);
    shift[channel] = static_cast<float>(beta - gamma * inverse * batch_mean);
  }
};

// The gradient of a batch normalization h = gamma (u - mean) rstd + beta over M elements is
//   d beta  = sum dh,   d gamma = rstd (sum dh u - mean sum dh),
//   du      = alpha (dh - d beta / M - (u - mean) rstd d gamma / M)   with alpha = gamma rstd,
// kept as du = dout_factor dh + constant + input_factor u; [C] each.
struct BatchNormGradient {
  Buffer<float> dout_factor, constant, input_factor;

  void Allocate(int64_t channels) {
    for (Buffer<float>* b : {&dout_factor, &constant, &input_factor}) bdd::Allocate(*b, channels);
  }
  // Takes the sums of dh and of dh u over all `count` elements of a channel. Returns d gamma.
  float Set(int channel, const BatchNorm& norm, float gamma, double sum_dout, double sum_dout_input, double count) {
    const double mean = norm.mean[channel], rstd = norm.rstd[channel];
    const double d_gamma = rstd * (sum_dout_input - mean * sum_dout), alpha = gamma * rstd;
    dout_factor[channel] = static_cast<float>(alpha);
    input_factor[channel] = static_cast<float>(-alpha * d_gamma * rstd / count);
    constant[channel] = static_cast<float>(-alpha * sum_dout / count + alpha * d_gamma * rstd * mean / count);
    return static_cast<float>(d_gamma);
  }
};

}  // namespace bdd
