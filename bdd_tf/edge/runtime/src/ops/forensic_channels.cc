// Passes over an image: (1) bytes to scaled RGB planes and grey levels, (2) the spectrum, (3) the pattern and the
// placing of the spectrum, row by row, (4) the convolution.
//
// The 2-D DFT is two multiplications with tables of cosines and sines. Both use the symmetry of real input: a sequence
// is folded onto itself, because cosines see the sum of x[i] and x[size - i], and sines their difference.
#include "ops/forensic_channels.h"

#include <algorithm>
#include <cmath>
#include <new>

namespace bdd {
namespace {

constexpr int kRadius = 6, kBack = 3;  // columns of the pattern's neighbours to the right and to the left
constexpr int64_t kGreyLeft = 16;      // zeros to the left of a row of grey levels: at least kBack, and aligned
constexpr int64_t kRowsOfItem = 16;
constexpr int64_t kAlign = 16;  // floats

int64_t Aligned(int64_t count) { return (count + kAlign - 1) / kAlign * kAlign; }

class Channels final : public PlanarOperator {
 public:
  explicit Channels(const ChannelsSpec& spec) : spec_(spec) {}

  bool Prepare(const Value* const* inputs, int count, const KernelSet& kernels, Value* output, Message* why) override;
  void Run(const void* input, void* output, ThreadPool* pool) override;

 private:
  // Tables of a DFT of even length, for folded input.
  struct Transform {
    int64_t bins = 0;              // frequencies 0 to size / 2
    int64_t stride = 0;            // floats of a row of the tables
    Buffer<float> cosines, sines;  // [bins][bins]; the first and the last row and column of the sines are 0
  };

  bool Tabulate(int64_t size, bool transposed, Transform* transform);
  bool Allocate();
  void PackFilter();
  float* Plane(int64_t i) { return planes_.data() + i * plane_; }
  void ReadRows(int64_t first, int64_t last);
  void FoldRows(int64_t row);
  void FoldColumns(int64_t row);
  void PlaceSpectrum(float* plane, int64_t row);
  void ComputeSpectrum(const ChannelsSpec::Plane& plane);
  void ComputePattern(float scale, float* plane, int64_t row);
  void Convolve(int64_t row);

  ChannelsSpec spec_;
  const KernelSet* kernels_ = nullptr;
  ThreadPool* pool_ = nullptr;
  int32_t batch_ = 0;
  int64_t height_ = 0, width_ = 0;
  int64_t row_ = 0, plane_ = 0;  // floats of a row and of a plane, including the border
  int64_t grey_row_ = 0;
  Buffer<float> planes_, grey_, mixed_, weights_;
  Buffer<int64_t> row_sums_;
  Transform rows_, columns_;
  Buffer<float> even_, odd_;    // [bins of rows][width]: folded rows
  Buffer<float> half_[2];       // [bins of rows][width]: their cosine and sine transforms
  Buffer<float> folded_[2][2];  // [bins of rows][bins of columns]: those, folded
  Buffer<float> parts_[2][2];   // [bins][bins]: cosines or sines down, then across
  Buffer<float> quadrants_[2];  // [bins][bins]: (u, v) and (-u, v)
  const uint8_t* image_ = nullptr;
  float* out_ = nullptr;
  int64_t mean_ = 0;
};

// Rows are frequencies; if transposed, columns are.
bool Channels::Tabulate(int64_t size, bool transposed, Transform* t) {
  constexpr double kTurn = 6.283185307179586476925;
  t->bins = size / 2 + 1;
  t->stride = Aligned(t->bins);
  if (!t->cosines.Reset(t->bins * t->stride) || !t->sines.Reset(t->bins * t->stride)) return false;
  for (int64_t u = 0; u < t->bins; ++u) {
    for (int64_t i = 0; i < t->bins; ++i) {
      const double angle = kTurn * static_cast<double>(u * i % size) / static_cast<double>(size);
      const int64_t at = transposed ? i * t->stride + u : u * t->stride + i;
      t->cosines[at] = static_cast<float>(std::cos(angle));
      const bool zero = u == 0 || i == 0 || u == t->bins - 1 || i == t->bins - 1;
      t->sines[at] = zero ? 0.0f : static_cast<float>(std::sin(angle));
    }
  }
  return true;
}

bool Channels::Prepare(const Value* const* inputs, int count, const KernelSet& kernels, Value* output, Message* why) {
  if (!CheckImages(inputs, count, spec_.height, spec_.width, *output, why)) return false;
  const Shape& shape = inputs[0]->shape;
  if (Times(shape.Elements(), 4) < 0) return why->Set("the images are too large");
  kernels_ = &kernels;
  planar_ = false;
  batch_ = shape.dims[0];
  output->shape = shape;
  height_ = spec_.height;
  width_ = spec_.width;
  if (!Allocate()) return why->Set("no memory for its maps");
  PackFilter();
  return true;
}

bool Channels::Allocate() {
  row_ = Aligned(width_ + 2) + kAlign;  // kernels may read past the end of a row
  plane_ = row_ * (height_ + 2);
  grey_row_ = kGreyLeft + Aligned(width_ + kRadius) + kAlign;
  const auto planes = static_cast<int64_t>(spec_.planes.size());
  bool good = planes_.Reset(plane_ * planes) && grey_.Reset(grey_row_ * (height_ + 2 * kRadius)) &&
              mixed_.Reset(kMixed * Aligned(width_) * height_) && weights_.Reset(kMixed * 9 * planes + kMixed) &&
              row_sums_.Reset(height_) && Tabulate(height_, false, &rows_) && Tabulate(width_, true, &columns_);
  const int64_t wide = Aligned(width_);
  good = good && even_.Reset(rows_.bins * wide) && odd_.Reset(rows_.bins * wide);
  for (int i = 0; i < 2; ++i) {
    good = good && half_[i].Reset(rows_.bins * wide) && quadrants_[i].Reset(rows_.bins * columns_.stride);
    for (int j = 0; j < 2; ++j) {
      good =
          good && folded_[i][j].Reset(rows_.bins * columns_.stride) && parts_[i][j].Reset(rows_.bins * columns_.stride);
    }
  }
  return good;
}

// From [O, y, x, C] to [C, y, x, O], followed by the bias.
void Channels::PackFilter() {
  const auto planes = static_cast<int64_t>(spec_.planes.size());
  for (int64_t o = 0; o < kMixed; ++o) {
    for (int64_t tap = 0; tap < 9; ++tap) {
      for (int64_t c = 0; c < planes; ++c) {
        std::memcpy(&weights_[(c * 9 + tap) * kMixed + o],
                    static_cast<const uint8_t*>(spec_.filter) + 4 * ((o * 9 + tap) * planes + c), 4);
      }
    }
    std::memcpy(&weights_[9 * planes * kMixed + o], static_cast<const uint8_t*>(spec_.bias) + 4 * o, 4);
  }
}

// Converts bytes to scaled planes, and to grey levels as OpenCV's BGR2GRAY computes them when RGB is passed as BGR.
void Channels::ReadRows(int64_t first, int64_t last) {
  float* colours[3] = {};
  float scales[3] = {};
  for (size_t p = 0; p < spec_.planes.size(); ++p) {
    const auto kind = static_cast<size_t>(spec_.planes[p].kind);
    if (kind > 2) continue;
    colours[kind] = Plane(static_cast<int64_t>(p)) + row_ + 1;
    scales[kind] = spec_.planes[p].scale;
  }
  for (int64_t y = first; y < last; ++y) {
    float* to[3] = {colours[0] + y * row_, colours[1] + y * row_, colours[2] + y * row_};
    row_sums_[y] = kernels_->rgb_to_planes_u8_f32(image_ + y * width_ * 3, width_, scales, to,
                                                  grey_.data() + (y + kRadius) * grey_row_ + kGreyLeft);
  }
}

void Channels::FoldRows(int64_t row) {
  const float mean = static_cast<float>(mean_);
  const int64_t wide = Aligned(width_);
  const float* a = grey_.data() + (row + kRadius) * grey_row_ + kGreyLeft;
  const float* b = grey_.data() + (height_ - row + kRadius) * grey_row_ + kGreyLeft;
  float *even = even_.data() + row * wide, *odd = odd_.data() + row * wide;
  if (row == 0 || row == rows_.bins - 1) {
    for (int64_t x = 0; x < width_; ++x) even[x] = a[x] - mean;
    return;
  }
  for (int64_t x = 0; x < width_; ++x) {
    even[x] = (a[x] - mean) + (b[x] - mean);
    odd[x] = a[x] - b[x];
  }
}

void Channels::FoldColumns(int64_t row) {
  for (int i = 0; i < 2; ++i) {
    const float* x = half_[i].data() + row * Aligned(width_);
    float* even = folded_[i][0].data() + row * columns_.stride;
    float* odd = folded_[i][1].data() + row * columns_.stride;
    const int64_t middle = columns_.bins - 1;
    even[0] = x[0];
    even[middle] = x[middle];
    for (int64_t k = 1; k < middle; ++k) {
      even[k] = x[k] + x[width_ - k];
      odd[k] = x[k] - x[width_ - k];
    }
  }
}

// Writes a row of the spectrum with the zero frequency in the center. The missing half follows from
// |F(-u, -v)| = |F(u, v)|.
void Channels::PlaceSpectrum(float* plane, int64_t row) {
  float* to = plane + (row + 1) * row_ + 1;
  const int64_t u = row - height_ / 2, middle = width_ / 2;
  const float* right = quadrants_[u < 0 ? 1 : 0].data() + std::abs(u) * columns_.stride;
  const float* left = quadrants_[u < 0 ? 0 : 1].data() + std::abs(u) * columns_.stride;
  for (int64_t x = 0; x < middle; ++x) to[x] = left[middle - x];
  std::memcpy(to + middle, right, static_cast<size_t>(middle) * sizeof(float));
}

void Channels::ComputeSpectrum(const ChannelsSpec::Plane& plane) {
  const KernelSet& kernels = *kernels_;
  const int64_t bins = rows_.bins, wide = Aligned(width_);
  int64_t sum = 0;
  for (int64_t y = 0; y < height_; ++y) sum += row_sums_[y];
  // Subtracting an integer near the mean keeps the transform accurate. It is added back at the zero frequency.
  mean_ = (2 * sum + height_ * width_) / (2 * height_ * width_);
  const int64_t items = (bins + kRowsOfItem - 1) / kRowsOfItem;
  pool_->ForEach(items, [&](int64_t item) {
    const int64_t last = std::min(bins, (item + 1) * kRowsOfItem);
    for (int64_t row = item * kRowsOfItem; row < last; ++row) FoldRows(row);
  });
  pool_->ForEach(2 * items, [&](int64_t item) {
    const int64_t sines = item % 2, first = item / 2 * kRowsOfItem, count = std::min(kRowsOfItem, bins - first);
    const Buffer<float>& table = sines ? rows_.sines : rows_.cosines;
    kernels.gemm_f32({table.data() + first * rows_.stride, rows_.stride}, {(sines ? odd_ : even_).data(), wide},
                     {half_[sines].data() + first * wide, wide}, count, wide, bins);
  });
  pool_->ForEach(items, [&](int64_t item) {
    const int64_t first = item * kRowsOfItem, count = std::min(kRowsOfItem, bins - first);
    const int64_t stride = columns_.stride, at = first * stride;
    for (int64_t row = first; row < first + count; ++row) FoldColumns(row);
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 2; ++j) {
        kernels.gemm_f32({folded_[i][j].data() + at, stride}, {(j ? columns_.sines : columns_.cosines).data(), stride},
                         {parts_[i][j].data() + at, stride}, count, stride, columns_.bins);
      }
    }
    if (item == 0) parts_[0][0][0] += static_cast<float>(mean_ * height_ * width_);
    for (int64_t row = first; row < first + count; ++row) {
      const int64_t r = row * stride;
      kernels.log_magnitude_f32(
          {parts_[0][0].data() + r, parts_[0][1].data() + r, parts_[1][0].data() + r, parts_[1][1].data() + r,
           plane.offset, plane.scale, quadrants_[0].data() + r, quadrants_[1].data() + r},
          stride);
    }
  });
}

void Channels::ComputePattern(float scale, float* plane, int64_t row) {
  const float* center = grey_.data() + (row + kRadius) * grey_row_ + kGreyLeft;
  const float* points[5] = {center + kRadius, center - kRadius * grey_row_ - kBack,
                            center - (kRadius - 1) * grey_row_ - kBack, center + kRadius * grey_row_ - kBack,
                            center + (kRadius - 1) * grey_row_ - kBack};
  kernels_->local_binary_pattern_f32(center, points, width_, scale, plane + (row + 1) * row_ + 1);
}

void Channels::Convolve(int64_t row) {
  const auto planes = static_cast<int64_t>(spec_.planes.size());
  const int64_t wide = Aligned(width_), out_stride = planar_ ? height_ * width_ : wide;
  float* to = planar_ ? out_ + row * width_ : mixed_.data() + row * kMixed * wide;
  kernels_->conv3x3_planar_f32({planes_.data() + row * row_, plane_, row_, planes}, weights_.data(), width_, to,
                               out_stride);
  if (planar_) return;
  float* out = out_ + row * width_ * kMixed;
  for (int64_t x = 0; x < width_; ++x) {
    for (int64_t o = 0; o < kMixed; ++o) out[x * kMixed + o] = to[o * wide + x];
  }
}

void Channels::Run(const void* input, void* output, ThreadPool* pool) {
  pool_ = pool;
  const int64_t items = (height_ + kRowsOfItem - 1) / kRowsOfItem;
  for (int32_t n = 0; n < batch_; ++n) {
    image_ = static_cast<const uint8_t*>(input) + n * height_ * width_ * 3;
    out_ = static_cast<float*>(output) + n * height_ * width_ * kMixed;
    const auto last = [&](int64_t item) { return std::min(height_, (item + 1) * kRowsOfItem); };
    pool_->ForEach(items, [&](int64_t item) { ReadRows(item * kRowsOfItem, last(item)); });
    for (size_t p = 0; p < spec_.planes.size(); ++p) {
      const ChannelsSpec::Plane& plane = spec_.planes[p];
      if (plane.kind == ChannelsSpec::Plane::kSpectrum) ComputeSpectrum(plane);
    }
    pool_->ForEach(items, [&](int64_t item) {
      for (size_t p = 0; p < spec_.planes.size(); ++p) {
        const ChannelsSpec::Plane& plane = spec_.planes[p];
        float* data = Plane(static_cast<int64_t>(p));
        for (int64_t row = item * kRowsOfItem; row < last(item); ++row) {
          if (plane.kind == ChannelsSpec::Plane::kPattern) ComputePattern(plane.scale, data, row);
          if (plane.kind == ChannelsSpec::Plane::kSpectrum) PlaceSpectrum(data, row);
        }
      }
    });
    pool_->ForEach(items, [&](int64_t item) {
      for (int64_t row = item * kRowsOfItem; row < last(item); ++row) Convolve(row);
    });
  }
}

}  // namespace

std::unique_ptr<Operator> MakeChannels(const ChannelsSpec& spec) {
  return std::unique_ptr<Operator>(new (std::nothrow) Channels(spec));
}

}  // namespace bdd
