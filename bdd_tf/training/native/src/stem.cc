#include "stem.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "simd.h"

namespace bdd {
namespace {

constexpr int kTogether = 4;  // pixels that a loop computes together; a divisor of all widths

template <typename V>
inline V LoadVector(const float* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <typename V>
inline void StoreVector(float* p, V v) {
  std::memcpy(p, &v, sizeof v);
}

}  // namespace

Stem::Stem(const StemSpec& spec, ThreadPool* pool) : spec_(spec), pool_(pool) {
  taps_ = spec_.kernel * spec_.kernel;
  planes_ = spec_.adapter ? 3 : spec_.channels;
  plane_step_ = spec_.adapter ? kPlanes : planes_;
  out_height_ = spec_.height / spec_.stride;
  out_width_ = spec_.width / spec_.stride;
  out_pixels_ = out_height_ * out_width_;
  const int64_t c = spec_.filters, padded = static_cast<int64_t>(spec_.height + 2) * (spec_.width + 2);
  Allocate(adapter_, 9 * static_cast<int64_t>(spec_.channels) * kPlanes);
  Allocate(transposed_, c * taps_ * kPlanes);
  for (Buffer<float>* b : {&bias_, &scale_, &shift_}) Allocate(*b, std::max(kPlanes, planes_));
  Allocate(y_, static_cast<int64_t>(spec_.batch) * out_pixels_ * c);
  norm_.Allocate(c);
  norm_gradient_.Allocate(c);
  for (int i = 0; i < std::max(pool->threads(), 1); ++i) {
    auto context = std::make_unique<Context>();
    if (spec_.adapter) Allocate(context->x, padded * spec_.channels);
    Allocate(context->h, padded * plane_step_);
    if (spec_.adapter) Allocate(context->dh, padded * kPlanes);
    Allocate(context->dy, out_pixels_ * c);
    Allocate(context->d_adapter, 9 * static_cast<int64_t>(spec_.channels) * kPlanes);
    Allocate(context->d_bias, kPlanes);
    Allocate(context->d_kernel, taps_ * planes_ * c);
    for (Buffer<float>* b : {&context->sum, &context->sum_products}) Allocate(*b, c);
    for (Buffer<double>* b : {&context->total, &context->total_products}) Allocate(*b, c);
    contexts_.push_back(std::move(context));
  }
}

void Stem::Forward(const StemArguments& args) {
  PackAdapter(args);
  for (const auto& context : contexts_) {
    Zero(context->total);
    Zero(context->total_products);
  }
  ForItems(spec_.batch, [&](int image, Context& context) {
    ComputeH(image, args.x, context);
    Convolve(image, args.parameters[kStemKernel], context);
    if (args.training) AddMoments(image, context);
  });
  SetNorm(args);
  const int c = spec_.filters;
  ForItems(spec_.batch, [&](int image, Context&) {
    const int64_t at = static_cast<int64_t>(image) * out_pixels_ * c;
    for (int64_t p = at; p < at + static_cast<int64_t>(out_pixels_) * c; p += c) {
      for (int i = 0; i < c; i += kLanes) {
        Store(args.out + p + i, Load(&y_[p + i]) * Load(&norm_.scale[i]) + Load(&norm_.shift[i]));
      }
    }
  });
}

// The adapter with its outputs padded to a vector.
void Stem::PackAdapter(const StemArguments& args) {
  std::copy(args.parameters[kStemScale], args.parameters[kStemScale] + planes_, scale_.data());
  std::copy(args.parameters[kStemShift], args.parameters[kStemShift] + planes_, shift_.data());
  if (!spec_.adapter) return;
  std::copy(args.parameters[kAdapterBias], args.parameters[kAdapterBias] + planes_, bias_.data());
  for (int64_t i = 0; i < 9 * spec_.channels; ++i) {
    for (int p = 0; p < planes_; ++p) adapter_[i * kPlanes + p] = args.parameters[kAdapterKernel][i * planes_ + p];
  }
}

// h of an image, within its border.
void Stem::ComputeH(int image, const float* x, Context& context) const {
  const int height = spec_.height, width = spec_.width, k = spec_.channels;
  const float* from = x + static_cast<int64_t>(image) * height * width * k;
  if (spec_.adapter) {
    for (int row = 0; row < height; ++row) {
      std::memcpy(&context.x[(static_cast<int64_t>(row + 1) * (width + 2) + 1) * k],
                  from + static_cast<int64_t>(row) * width * k, sizeof(float) * static_cast<size_t>(width * k));
    }
    Adapt(context);
    return;
  }
  for (int row = 0; row < height; ++row) {
    for (int column = 0; column < width; ++column, from += k) {
      float* h = &context.h[(static_cast<int64_t>(height - row) * (width + 2) + width - column) * plane_step_];
      for (int p = 0; p < k; ++p) h[p] = from[p] * scale_[p] + shift_[p];
    }
  }
}

// h = rotate(scale (conv3x3(x, A) + a) + shift).
void Stem::Adapt(Context& context) const {
  const int width = spec_.width, k = spec_.channels;
  const Planes bias = LoadVector<Planes>(bias_.data()), scale = LoadVector<Planes>(scale_.data()),
               shift = LoadVector<Planes>(shift_.data());
  for (int row = 0; row < spec_.height; ++row) {
    for (int column = 0; column < width; column += kTogether) {
      Planes sum[kTogether] = {bias, bias, bias, bias};
      for (int ky = 0; ky < 3; ++ky) {
        // The three pixels of a window's row are contiguous.
        const float* x = &context.x[(static_cast<int64_t>(row + ky) * (width + 2) + column) * k];
        const float* kernel = adapter_.data() + static_cast<int64_t>(ky) * 3 * k * kPlanes;
        for (int j = 0; j < 3 * k; ++j) {
          const Planes w = LoadVector<Planes>(kernel + j * kPlanes);
          for (int m = 0; m < kTogether; ++m) sum[m] += x[m * k + j] * w;
        }
      }
      float* h = &context.h[(static_cast<int64_t>(spec_.height - row) * (width + 2) + width - column) * kPlanes];
      for (int m = 0; m < kTogether; ++m) StoreVector(h - m * kPlanes, sum[m] * scale + shift);
    }
  }
}

// The pixel of h that a tap of output pixel o sees. SAME pads as many pixels as the kernel exceeds the stride, the
// smaller half of them before.
const float* Stem::Seen(const Context& context, int o, int tap) const {
  const int before = 1 - std::max(spec_.kernel - spec_.stride, 0) / 2;
  const int64_t row = o / out_width_ * spec_.stride + tap / spec_.kernel + before;
  const int64_t column = o % out_width_ * spec_.stride + tap % spec_.kernel + before;
  return context.h.data() + (row * (spec_.width + 2) + column) * plane_step_;
}

// y = conv(h, S), 16 filters of kTogether pixels at a time.
void Stem::Convolve(int image, const float* kernel, Context& context) {
  const int c = spec_.filters, step = spec_.stride * plane_step_;
  float* y = &y_[static_cast<int64_t>(image) * out_pixels_ * c];
  for (int o = 0; o < out_pixels_; o += kTogether) {
    for (int f = 0; f < c; f += kPanel) {
      Floats sum[kTogether][kVectors] = {};
      for (int tap = 0; tap < taps_; ++tap) {
        const float* h = Seen(context, o, tap);
        for (int p = 0; p < planes_; ++p) {
          const float* w = kernel + static_cast<int64_t>(tap * planes_ + p) * c + f;
          for (int m = 0; m < kTogether; ++m) {
            for (int v = 0; v < kVectors; ++v) sum[m][v] += h[m * step + p] * Load(w + v * kLanes);
          }
        }
      }
      for (int m = 0; m < kTogether; ++m) {
        for (int v = 0; v < kVectors; ++v) Store(y + static_cast<int64_t>(o + m) * c + f + v * kLanes, sum[m][v]);
      }
    }
  }
}

void Stem::AddMoments(int image, Context& context) const {
  const int c = spec_.filters;
  const float* y = y_.data() + static_cast<int64_t>(image) * out_pixels_ * c;
  Zero(context.sum);
  Zero(context.sum_products);
  for (int o = 0; o < out_pixels_; ++o, y += c) {
    for (int i = 0; i < c; i += kLanes) {
      const Floats value = Load(y + i);
      Add(&context.sum[i], value);
      Add(&context.sum_products[i], value * value);
    }
  }
  for (int i = 0; i < c; ++i) {
    context.total[i] += static_cast<double>(context.sum[i]);
    context.total_products[i] += static_cast<double>(context.sum_products[i]);
  }
}

void Stem::SetNorm(const StemArguments& args) {
  const float *gamma = args.parameters[kStemGamma], *beta = args.parameters[kStemBeta];
  const double count = static_cast<double>(spec_.batch) * out_pixels_;
  norm_.SetAll(gamma, beta, args.statistics, args.training, count,
               [&](int i) { return SumContexts(contexts_, &Context::total, &Context::total_products, i); });
}

void Stem::Backward(const StemArguments& args) {
  if (spec_.adapter) PackKernel(args.parameters[kStemKernel]);
  for (const auto& context : contexts_) {
    for (Buffer<double>* b : {&context->total, &context->total_products}) Zero(*b);
    for (Buffer<float>* b : {&context->d_adapter, &context->d_bias, &context->d_kernel}) Zero(*b);
  }
  ForItems(spec_.batch, [&](int image, Context& context) { SumOutputGradient(image, args.out, context); });
  SetNormGradient(args);
  ForItems(spec_.batch, [&](int image, Context& context) {
    ComputeH(image, args.x, context);
    WriteConvGradient(image, args.out, context);
    KernelGradient(context);
    if (!spec_.adapter) return;
    PlaneGradient(context);
    AdapterGradient(context);
  });
  SumGradients(args);
}

void Stem::PackKernel(const float* kernel) {
  const int c = spec_.filters;
  for (int tap = 0; tap < taps_; ++tap) {
    for (int p = 0; p < planes_; ++p) {
      const float* from = kernel + static_cast<int64_t>(tap * planes_ + p) * c;
      for (int64_t f = 0; f < c; ++f) transposed_[(f * taps_ + tap) * kPlanes + p] = from[f];
    }
  }
}

void Stem::SumOutputGradient(int image, const float* dout, Context& context) const {
  const int c = spec_.filters;
  const int64_t at = static_cast<int64_t>(image) * out_pixels_ * c;
  Zero(context.sum);
  Zero(context.sum_products);
  for (int64_t p = at; p < at + static_cast<int64_t>(out_pixels_) * c; p += c) {
    for (int i = 0; i < c; i += kLanes) {
      const Floats d = Load(dout + p + i);
      Add(&context.sum[i], d);
      Add(&context.sum_products[i], d * Load(y_.data() + p + i));
    }
  }
  for (int i = 0; i < c; ++i) {
    context.total[i] += static_cast<double>(context.sum[i]);
    context.total_products[i] += static_cast<double>(context.sum_products[i]);
  }
}

void Stem::SetNormGradient(const StemArguments& args) {
  const double count = static_cast<double>(spec_.batch) * out_pixels_;
  for (int i = 0; i < spec_.filters; ++i) {
    double sum = 0, products = 0;
    for (const auto& context : contexts_) {
      sum += context->total[i];
      products += context->total_products[i];
    }
    args.gradients[kStemGamma][i] = norm_gradient_.Set(i, norm_, args.parameters[kStemGamma][i], sum, products, count);
    args.gradients[kStemBeta][i] = static_cast<float>(sum);
  }
}

// dy of an image.
void Stem::WriteConvGradient(int image, const float* dout, Context& context) const {
  const int c = spec_.filters;
  const int64_t at = static_cast<int64_t>(image) * out_pixels_ * c;
  for (int64_t p = 0; p < static_cast<int64_t>(out_pixels_) * c; p += c) {
    for (int i = 0; i < c; i += kLanes) {
      const Floats factor = Load(norm_gradient_.dout_factor.data() + i);
      const Floats input_factor = Load(norm_gradient_.input_factor.data() + i);
      Store(&context.dy[p + i], factor * Load(dout + at + p + i) + Load(norm_gradient_.constant.data() + i) +
                                    input_factor * Load(y_.data() + at + p + i));
    }
  }
}

// dS[tap, p, f] += sum over pixels of h dy.
void Stem::KernelGradient(Context& context) const {
  const int c = spec_.filters, step = spec_.stride * plane_step_;
  for (int o = 0; o < out_pixels_; o += kTogether) {
    for (int f = 0; f < c; f += kPanel) {
      Floats dy[kTogether][kVectors];
      for (int m = 0; m < kTogether; ++m) {
        for (int v = 0; v < kVectors; ++v) {
          dy[m][v] = Load(&context.dy[static_cast<int64_t>(o + m) * c + f + v * kLanes]);
        }
      }
      for (int tap = 0; tap < taps_; ++tap) {
        const float* h = Seen(context, o, tap);
        for (int p = 0; p < planes_; ++p) {
          float* to = &context.d_kernel[static_cast<int64_t>(tap * planes_ + p) * c + f];
          for (int v = 0; v < kVectors; ++v) {
            Floats sum = Load(to + v * kLanes);
            for (int m = 0; m < kTogether; ++m) sum += h[m * step + p] * dy[m][v];
            Store(to + v * kLanes, sum);
          }
        }
      }
    }
  }
}

// dh = conv^T(dy, S): each output pixel adds to the pixels that it has seen.
void Stem::PlaneGradient(Context& context) const {
  const int c = spec_.filters;
  Zero(context.dh);
  float* const origin = context.dh.data();
  for (int o = 0; o < out_pixels_; ++o) {
    Planes sum[kMaxTaps] = {};
    const float* dy = &context.dy[static_cast<int64_t>(o) * c];
    for (int f = 0; f < c; ++f) {
      const float* w = transposed_.data() + static_cast<int64_t>(f) * taps_ * kPlanes;
      for (int tap = 0; tap < taps_; ++tap) sum[tap] += dy[f] * LoadVector<Planes>(w + tap * kPlanes);
    }
    for (int tap = 0; tap < taps_; ++tap) {
      const float* h = Seen(context, o, tap);
      float* dh = origin + (h - context.h.data());
      StoreVector(dh, LoadVector<Planes>(dh) + sum[tap]);
    }
  }
}

// dA[tap, k, p] += sum over pixels of x scale dh, da = sum of scale dh.
void Stem::AdapterGradient(Context& context) const {
  const int width = spec_.width, k = spec_.channels;
  const Planes scale = LoadVector<Planes>(scale_.data());
  Planes bias = LoadVector<Planes>(context.d_bias.data());
  for (int row = 0; row < spec_.height; ++row) {
    for (int column = 0; column < width; column += kTogether) {
      const float* dh =
          &context.dh[(static_cast<int64_t>(spec_.height - row) * (width + 2) + width - column) * kPlanes];
      Planes d[kTogether];
      for (int m = 0; m < kTogether; ++m) {
        d[m] = LoadVector<Planes>(dh - m * kPlanes) * scale;
        bias += d[m];
      }
      for (int ky = 0; ky < 3; ++ky) {
        const float* x = &context.x[(static_cast<int64_t>(row + ky) * (width + 2) + column) * k];
        float* to = &context.d_adapter[static_cast<int64_t>(ky) * 3 * k * kPlanes];
        for (int j = 0; j < 3 * k; ++j) {
          Planes sum = LoadVector<Planes>(to + j * kPlanes);
          for (int m = 0; m < kTogether; ++m) sum += x[m * k + j] * d[m];
          StoreVector(to + j * kPlanes, sum);
        }
      }
    }
  }
  StoreVector(context.d_bias.data(), bias);
}

void Stem::SumGradients(const StemArguments& args) const {
  for (int64_t i = 0; i < contexts_[0]->d_kernel.size(); ++i) {
    float sum = 0.0f;
    for (const auto& context : contexts_) sum += context->d_kernel[i];
    args.gradients[kStemKernel][i] = sum;
  }
  if (!spec_.adapter) return;
  for (int p = 0; p < planes_; ++p) {
    float sum = 0.0f;
    for (const auto& context : contexts_) sum += context->d_bias[p];
    args.gradients[kAdapterBias][p] = sum;
    for (int64_t i = 0; i < 9 * spec_.channels; ++i) {
      sum = 0.0f;
      for (const auto& context : contexts_) sum += context->d_adapter[i * kPlanes + p];
      args.gradients[kAdapterKernel][i * planes_ + p] = sum;
    }
  }
}

}  // namespace bdd
