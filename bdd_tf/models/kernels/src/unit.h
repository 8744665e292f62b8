// Training of one BNext unit (bdd_tf/models/bnext.py, `unit`), forwards and backwards, on a whole batch.
//
// What a framework does in some forty passes over memory is three forwards and three backwards here: one up to each
// sum that a batch normalisation or a gate waits for. Between them lie, for each element, its sign bit, the bit that
// tells whether the straight-through gradient passes, and the binary convolution's result as int16, which is exact.
// Everything else is computed anew from these where it is needed.
#pragma once

#include <cstdint>
#include <vector>

#include "threads.h"
#include "vector.h"

namespace bdd {

struct Shape {
  int batch, height, width, channels;  // of the input, channels a multiple of 16
  int kernel, stride;                  // 3 or 1; 2 with kernel 3 only
  bool attention;
};

// In this order, as pointers to floats, for values and for gradients alike.
enum Parameter {
  kMove,        // [C]
  kKernel,      // [k, k, C, C]: rows, columns, inputs, outputs
  kGamma1,      // [C]
  kBeta1,       // [C]
  kSlope,       // [C]
  kMix,         // [C]
  kReduce,      // [C, C / 8]
  kReduceBias,  // [C / 8]
  kExpand,      // [C / 8, C]
  kExpandBias,  // [C]
  kGamma2,      // [C]
  kBeta2,       // [C]
  kResidual,    // [C], with attention only
  kParameters
};

class Unit {
 public:
  Unit(const Shape& shape, ThreadPool* pool);
  ~Unit();
  Unit(const Unit&) = delete;
  Unit& operator=(const Unit&) = delete;

  // x: [N, H, W, C], a pixel's channels `x_step` floats after the last pixel's; out likewise.
  // statistics: [4, C]: mean and variance (with Bessel's correction) of the first normalisation, then of the second;
  // written where `training`, else read.
  void Forward(const float* x, int64_t x_step, const float* const* parameters, float* out, int64_t out_step,
               float* statistics, bool training);

  // After a Forward in training, with its x. `dx` is added to where `add`. `seed`: of the rounding, where there is any.
  void Backward(const float* x, int64_t x_step, const float* const* parameters, const float* dout, int64_t dout_step,
                float* dx, int64_t dx_step, bool add, float* const* gradients, uint64_t seed, bool exact);

 private:
  struct Pair {
    int32_t in, out;  // pixels of one image that a tap connects
  };
  struct Row {
    int32_t in, out;  // pixels of a group of images
  };
  struct Lane;  // what one thread sums up

  void PackWeights(const float* kernel);
  void SpreadWeights();
  void SignsAndConvolution(int image, const float* x, int64_t x_step, const float* const* parameters, Lane& lane,
                           bool training);
  void Sums(int image, const float* x, int64_t x_step, const float* const* parameters);
  void Output(int image, const float* x, int64_t x_step, const float* const* parameters, float* out, int64_t out_step);
  void BackwardGroup(int group, const float* x, int64_t x_step, const float* const* parameters, const float* dout,
                     int64_t dout_step, float* dx, int64_t dx_step, bool add, Lane& lane, uint64_t seed, bool exact);
  void ProductsFloat(int images, int first, Lane& lane);
  void ProductsInteger(int images, int first, Lane& lane, uint64_t seed);
  const float* Residual(int image, const float* x, int64_t x_step, int64_t* step) const;

  template <typename F>
  void ForLanes(int items, const F& f);

  Shape s_;
  ThreadPool* pool_;
  int lanes_, group_, taps_, words_, squeezed_, in_, out_;  // in_, out_: pixels of an image
  bool keeps_residual_;
  std::vector<std::vector<Pair>> pairs_;  // by tap
  Buffer<int32_t> places_;                // [out pixel, tap]: input pixel or -1

  // Weights: signs as bits [out channel, tap, word] for the convolution, as floats [tap, panel of inputs, out
  // channel, 16] for its gradient, and as bytes 0 and 1 [tap, panel of 32 inputs, pair of out channels, 32, 2].
  Buffer<uint64_t> weight_bits_;
  Buffer<int16_t> border_;  // [out pixel's class, out channel]: what zero padding adds
  Buffer<int32_t> class_of_;
  std::vector<std::vector<int>> class_taps_;
  Buffer<float> weight_signs_;
  Buffer<uint8_t> weight_bytes_;

  // Kept from forwards to backwards.
  Buffer<uint64_t> bits_, passes_;                  // [N, in, words]
  Buffer<int16_t> y_;                               // [N, out, C]
  Buffer<float> residual_;                          // [N, out, C] where it isn't x itself
  Buffer<float> mean_in_, sum_z_, sum_v_, sum_v2_;  // [N, C]; v = z or z r
  Buffer<float> mixed_, hidden_, gate_;             // [N, C], [N, C / 8], [N, C]
  Buffer<float> scale1_, shift1_, mean1_, rstd1_, scale2_, shift2_, mean2_, rstd2_;  // [C]

  // Backwards.
  Buffer<float> sum_d_, sum_dv_, dgate_, dmixed_;      // [N, C]
  Buffer<float> alpha_, beta_, kappa_, a1_, b1_, k1_;  // [C]
  std::vector<Lane*> lane_;
};

}  // namespace bdd
