// Training of one BNext unit (bdd_tf/models/bnext.py, `unit`), forward and backward, on a whole batch.
//
// The unit computes, for an input x [N, H, W, C] and vectors move, gamma, beta, slope, mix of C floats:
//
//   s    = sign(x + move)                                   +-1
//   y    = conv(s, sign(W))                                 binary convolution, an exact integer
//   p    = BN1(y) = gamma1 (y - mean1) rstd1 + beta1        moments over N, H, W
//   z    = PReLU(p)                                         p where positive, else slope p
//   m    = mix mean_hw(x) + (1 - mix) mean_hw(z)            one vector per image
//   gate = sigmoid(W_expand relu(W_reduce m + b_reduce) + b_expand)
//   r    = pool(x), or pool(PReLU_residual(x)) with attention; pool: 2x2 mean at stride 2, identity at stride 1
//   v    = z, or z r with attention
//   u    = gate v
//   out  = BN2(u) + r
//
// A framework runs some forty passes over memory for this. Here the forward and the backward take three each: a pass
// ends only where the batch must be complete, at BN1's moments, at the gate and BN2's moments, and at their
// counterparts in the backward. For the backward, the forward stores a sign bit and a bit of the straight-through mask
// per element of x, the result y as int16, and r where it differs from x. z, v and u are recomputed from these.
//
// A gate is constant over the pixels of an image. Therefore BN2's moments follow from sums over each image that do not
// know the gate yet: sum u = gate sum v, and sum u^2 = gate^2 sum v^2.
#pragma once

#include <cstdint>
#include <vector>

#include "batch_norm.h"
#include "parallel.h"
#include "support/memory.h"
#include "support/threads.h"
#include "workspace.h"

namespace bdd {

// The fixed sizes of a unit.
struct UnitSpec {
  int batch, height, width, channels;  // of the input; channels: a multiple of 16
  int kernel;                          // 3 or 1
  int stride;                          // 1, or 2 with a 3x3 kernel
  int attention;                       // 1: the element-wise attention form
};

// Trainable parameters in the order in which callers pass them, as pointers to floats, for values and gradients alike.
enum Parameter {
  kMove,           // [C]
  kKernel,         // [k, k, C, C]: rows, columns, inputs, outputs
  kGamma1,         // [C]
  kBeta1,          // [C]
  kSlope,          // [C]
  kMix,            // [C]
  kReduce,         // [C, C / 8]
  kReduceBias,     // [C / 8]
  kExpand,         // [C / 8, C]
  kExpandBias,     // [C]
  kGamma2,         // [C]
  kBeta2,          // [C]
  kResidualSlope,  // [C], with attention only
  kParameters
};

// The arguments of a forward and of a backward. Their layout is part of the C interface.
struct ForwardArguments {
  FeatureMap<const float> x;
  FeatureMap<float> out;           // written
  const float* const* parameters;  // [kParameters]
  float* statistics;  // [4, C]: mean and unbiased variance of BN1, then of BN2; written in training, else read
  int64_t training;   // 1: normalize by the batch and store what Backward needs; 0: by `statistics`
};

struct BackwardArguments {
  FeatureMap<const float> x;  // as in the forward
  FeatureMap<const float> dout;
  FeatureMap<float> dx;            // written, or added to
  const float* const* parameters;  // as in the forward
  float* const* gradients;         // [kParameters]; written
  uint64_t seed;                   // of the stochastic rounding in the int8 mode
  int64_t add;                     // 1: add to dx
  int64_t exact;                   // 1: float products in the convolution's gradients; 0: int8 products
};

class Unit {
 public:
  Unit(const UnitSpec& spec, ThreadPool* pool);

  void Forward(const ForwardArguments& args);

  // Gradients of the last Forward in training.
  void Backward(const BackwardArguments& args);

 private:
  // Pixels of an image, first to first + count - 1.
  struct PixelRange {
    int image, first, count;
  };
  static constexpr int kRowFloats = 1024;  // of each image that leave the layout of the tile together

  // unit.cc
  void ListTaps();
  void ListInputTaps();
  void AllocateStored();
  void AllocateContext(ThreadContext& context) const;

  // forward.cc
  void BinarizeImage(int image, const ForwardArguments& args);
  void AddMoments(int image, ThreadContext& context) const;
  void SetNorm1(const ForwardArguments& args);
  void SumImage(int image, FeatureMap<const float> x, const float* const* parameters);
  void ComputeGate(int image, const float* const* parameters);
  void SetNorm2(const ForwardArguments& args);
  void WriteOutput(int image, const ForwardArguments& args) const;
  FeatureMap<const float> Residual(int image, FeatureMap<const float> x) const;

  // binary_conv.cc
  struct Chunk {
    int tap, end_tap, group, groups;
  };
  struct ImageRange {
    int first, count;
  };
  void ListChunks();
  void AllocateConvolution(ThreadContext& context) const;
  void PackWeights(const float* kernel);
  void IndexInputs(int image, uint8_t* index) const;
  void ConvolveTile(int first, int images, ThreadContext& context);
  template <int kOutputs>
  void ConvolveBlock(ImageRange tile, int o, ThreadContext& context);

  // backward.cc
  static void ClearSums(ThreadContext& context);
  void SumOutputGradient(int image, const BackwardArguments& args);
  void SetNorm2Gradient(const BackwardArguments& args);
  void BackwardGate(int image, const float* const* parameters, ThreadContext& context);
  void SumNorm1Gradient(int image, const BackwardArguments& args, ThreadContext& context) const;
  void SetNorm1Gradient(const BackwardArguments& args);
  void WriteConvGradient(int k, int first, const BackwardArguments& args, ThreadContext& context) const;
  void WriteInputGradient(int first, int images, const BackwardArguments& args, ThreadContext& context) const;
  void WriteInputPixels(const PixelRange& range, const float* ds, FeatureMap<const float> dr,
                        const BackwardArguments& args, ThreadContext& context) const;
  void SumGradients(float* const* gradients);

  // sign_gradient.cc: from context.dy of a tile to context.ds.
  struct RowRange {
    int first, end;
  };
  void SignGradient(ThreadContext& context, bool exact) const;
  template <typename T, int kGroups>
  void SignGradientBands(ThreadContext& context) const;
  template <typename T, int kGroups>
  void AddSignGradient(RowRange band, int group, ThreadContext& context) const;
  template <typename T, int kGroups>
  void FillRow(int row, int group, const float* scale, ThreadContext& context) const;

  // kernel_gradient.cc: from context.dy of a tile, whose first image is `first`, added to context.d_kernel.
  void KernelGradient(int first, int images, ThreadContext& context, uint64_t seed, bool exact) const;
  void IndexSigns(int first, int images, ThreadContext& context) const;
  void QuantizeChannels(int images, ThreadContext& context, uint64_t seed) const;
  template <typename T, int kOutputs>
  void AddKernelBlock(int o, int images, const T* dy, const float* scale, ThreadContext& context) const;

  template <typename F>
  void ForItems(int items, const F& f) {
    bdd::ForItems(pool_, contexts_, items, f);
  }

  UnitSpec spec_;
  ThreadPool* pool_;
  int tile_;                    // images that a thread's backward processes together
  int taps_;                    // kernel * kernel
  int words_;                   // 64-bit words per pixel of sign bits
  int squeezed_;                // C / 8, the gate's hidden layer
  int in_pixels_, out_pixels_;  // of one image
  bool stores_residual_;        // r differs from x

  std::vector<std::vector<TapPair>> pairs_;  // by tap
  // What sign_gradient.cc needs of the geometry. A 1x1 convolution is seen as a map with one pixel per row.
  struct TableRing {
    int in_rows, out_rows, out_width;
    int rows;                     // of tables that are kept
    int rows_ahead, rows_behind;  // output rows below and above its own that an input pixel reaches
  } ring_;
  struct InputTap {
    int tap, slot;  // of the output pixel in the ring
  };
  std::vector<InputTap> input_taps_;  // of all input pixels
  Buffer<int32_t> tap_begin_;         // [in pixel + 1]: range in input_taps_
  int groups_per_pass_, band_rows_, most_taps_;
  Buffer<int32_t> indirection_;  // [out pixel, tap]: input pixel, or -1 outside of the image
  Buffer<int32_t> valid_taps_;   // [out pixel]: taps inside of the image
  std::vector<Chunk> chunks_;
  int conv_tile_;  // images that a thread convolves together

  // The signs of the weights, written by each Forward.
  Buffer<uint8_t> weight_ones_;   // [tap, input, output]: 1 for +1, 0 for -1
  Buffer<uint8_t> weight_index_;  // [pass, input, tap, group of the pass]: signs of 4 outputs, see sign_tables.h

  // Stored by the forward for the backward.
  Buffer<uint64_t> sign_bits_, ste_mask_;          // [N, in pixels, words]
  Buffer<int16_t> y_;                              // [N, out pixels, C]
  Buffer<float> residual_;                         // [N, out pixels, C]
  Buffer<float> mean_x_, sum_z_, sum_v_, sum_v2_;  // [N, C]
  Buffer<float> mixed_, hidden_, gate_;            // [N, C], [N, C / 8], [N, C]: m, its hidden layer, gate
  BatchNorm norm1_, norm2_;

  // Passed between the passes of the backward.
  Buffer<float> sum_dout_, sum_dout_v_, d_mixed_;  // [N, C]
  BatchNormGradient norm1_gradient_, norm2_gradient_;

  Contexts<ThreadContext> contexts_;  // one per thread
};

}  // namespace bdd
