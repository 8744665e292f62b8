// Training of the layers in front of the first block: adapter, normalization of its result, rotation by 180 degrees,
// stem and its batch normalization (bdd_tf/models/detector.py and bnext.py).
//
//   h   = rotate(scale (conv3x3(x, A) + a) + shift)   x [N, H, W, K]; h [N, H, W, P], P = 3; rotate: (y, x) -> (-y, -x)
//   y   = conv(h, S)                                  [N, H / stride, W / stride, C]
//   out = gamma (y - mean) rstd + beta                moments over the batch
//
// Without an adapter h = rotate(scale x + shift) and P = K. Paddings are TensorFlow's SAME. The forward stores y; the
// backward computes h again, image by image, which costs less than to read it from memory. x has no gradient.
#pragma once

#include <cstdint>

#include "batch_norm.h"
#include "parallel.h"
#include "support/memory.h"
#include "support/threads.h"

namespace bdd {

struct StemSpec {
  int batch, height, width, channels;  // of x
  int filters;                         // C, a multiple of 16
  int kernel;                          // side of S: 3 or 4
  int stride;                          // 1, 2 or 4; out_width a multiple of 4
  int adapter;                         // 1: with an adapter
};

// Parameters as pointers to floats, for values and gradients alike.
enum StemParameter {
  kStemScale,      // [P], not trained
  kStemShift,      // [P], not trained
  kStemKernel,     // [kernel, kernel, P, C]
  kStemGamma,      // [C]
  kStemBeta,       // [C]
  kAdapterKernel,  // [3, 3, K, P]
  kAdapterBias,    // [P]
  kStemParameters
};

struct StemArguments {
  const float* x;
  float* out;                      // [N, out pixels, C]: written by the forward; its gradient, read by the backward
  const float* const* parameters;  // [kStemParameters]
  float* const* gradients;         // [kStemParameters]: written by the backward
  float* statistics;               // [2, C]: mean and unbiased variance; written in training, else read
  int64_t training;
};

class Stem {
 public:
  static constexpr int kPlanes = 8;    // P with an adapter, padded to a vector
  static constexpr int kMaxTaps = 16;  // of S

  Stem(const StemSpec& spec, ThreadPool* pool);

  void Forward(const StemArguments& args);
  void Backward(const StemArguments& args);

 private:
  typedef float Planes __attribute__((vector_size(kPlanes * 4)));

  // Scratch and partial sums of a thread. Maps have a border of one pixel on each side, which is zero.
  struct Context {
    Buffer<float> x;                       // [H + 2, W + 2, K]
    Buffer<float> h, dh;                   // [H + 2, W + 2, P], with an adapter padded to kPlanes
    Buffer<float> dy;                      // [out pixel, C]
    Buffer<float> sum, sum_products;       // [C]: of one image
    Buffer<double> total, total_products;  // [C]
    Buffer<float> d_adapter;               // [3, 3, K, kPlanes]
    Buffer<float> d_bias;                  // [kPlanes]
    Buffer<float> d_kernel;                // [kernel, kernel, P, C]
  };

  void PackAdapter(const StemArguments& args);
  void PackKernel(const float* kernel);
  void ComputeH(int image, const float* x, Context& context) const;
  void Adapt(Context& context) const;
  void Convolve(int image, const float* kernel, Context& context);
  void AddMoments(int image, Context& context) const;
  void SetNorm(const StemArguments& args);
  void SumOutputGradient(int image, const float* dout, Context& context) const;
  void SetNormGradient(const StemArguments& args);
  void WriteConvGradient(int image, const float* dout, Context& context) const;
  void KernelGradient(Context& context) const;
  void PlaneGradient(Context& context) const;
  void AdapterGradient(Context& context) const;
  void SumGradients(const StemArguments& args) const;
  const float* Seen(const Context& context, int o, int tap) const;

  template <typename F>
  void ForItems(int items, const F& f) {
    bdd::ForItems(pool_, contexts_, items, f);
  }

  StemSpec spec_;
  ThreadPool* pool_;
  int taps_, planes_, plane_step_, out_height_, out_width_, out_pixels_;
  Buffer<float> adapter_;               // [3, 3, K, kPlanes]
  Buffer<float> transposed_;            // [C, kernel, kernel, kPlanes]: S
  Buffer<float> bias_, scale_, shift_;  // [P], padded
  Buffer<float> y_;                     // [N, out pixel, C]
  BatchNorm norm_;
  BatchNormGradient norm_gradient_;
  Contexts<Context> contexts_;
};

}  // namespace bdd
