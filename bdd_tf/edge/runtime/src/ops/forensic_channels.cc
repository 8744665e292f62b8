// Passes over an image: (1) bytes to scaled RGB planes and grey levels, (2) the spectrum, (3) the pattern and the
// placing of the spectrum, row by row, (4) the convolution.
//
// The 2-D DFT is two multiplications with tables of cosines and sines. A sequence of real numbers is folded twice: the
// cosines see the sum of x[i] and x[size - i], the sines their difference; and of those, even frequencies see the sum
// of elements i and size / 2 - i (sines: the difference), odd ones the other.
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
    int64_t bins = 0;            // frequencies 0 to size / 2
    int64_t depth = 0;           // length of a sequence that is folded twice
    int64_t stride = 0;          // floats of a row of a table
    Buffer<float> tables[2][2];  // cosines and sines of even and odd frequencies, [depth][depth]

    int64_t BinsOf(int parity) const { return (bins + 1 - parity) / 2; }
  };

  // Elements i, size - i, size / 2 - i and size / 2 + i of a sequence, folded: [cosines, sines][even, odd].
  struct Folded {
    float of[2][2];
  };

  bool Tabulate(int64_t size, bool transposed, Transform* transform);
  bool Allocate();
  void PackFilter();
  float* Plane(int64_t i) { return planes_.data() + i * plane_; }
  void ReadRows(int64_t first, int64_t last);
  static Folded Fold(float a, float b, float c, float d);
  void FoldRows(int64_t row);
  void FoldColumns(int64_t row);
  void TransformRows(int64_t item, int64_t items);
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
  Buffer<float> folded_rows_[2][2];        // [depth of rows][width]
  Buffer<float> half_[2];                  // [bins of rows][width]: their cosine and sine transforms
  Buffer<float> folded_columns_[2][2][2];  // [bins of rows][depth of columns]: those, folded
  Buffer<float> parts_[2][2];              // [bins][2 strides of columns]: cosines or sines down, then across
  Buffer<float> quadrants_[2];             // [bins][2 strides of columns]: (u, v) and (-u, v)
  const uint8_t* image_ = nullptr;
  float* out_ = nullptr;
  int64_t mean_ = 0;
};

// Rows are frequencies; if transposed, columns are.
bool Channels::Tabulate(int64_t size, bool transposed, Transform* t) {
  constexpr double kTurn = 6.283185307179586476925;
  t->bins = size / 2 + 1;
  t->depth = size / 4 + 1;
  t->stride = Aligned(t->depth);
  for (int parity = 0; parity < 2; ++parity) {
    Buffer<float>&cosines = t->tables[0][parity], &sines = t->tables[1][parity];
    if (!cosines.Reset(t->depth * t->stride) || !sines.Reset(t->depth * t->stride)) return false;
    for (int64_t r = 0; r < t->BinsOf(parity); ++r) {
      for (int64_t i = 0; i < t->depth; ++i) {
        const int64_t steps = (2 * r + parity) * i % size, at = transposed ? i * t->stride + r : r * t->stride + i;
        const double angle = kTurn * static_cast<double>(steps) / static_cast<double>(size);
        // Exact zeros, because folding leaves there what must not count.
        const bool quarter = 4 * steps == size || 4 * steps == 3 * size, half = 2 * steps % size == 0;
        cosines[at] = quarter ? 0.0f : static_cast<float>(std::cos(angle));
        sines[at] = half ? 0.0f : static_cast<float>(std::sin(angle));
      }
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
  const int64_t wide = Aligned(width_), columns = rows_.bins * 2 * columns_.stride;
  for (int i = 0; i < 2; ++i) {
    good = good && half_[i].Reset(rows_.bins * wide) && quadrants_[i].Reset(columns);
    for (int j = 0; j < 2; ++j) {
      good = good && folded_rows_[i][j].Reset(rows_.depth * wide) && parts_[i][j].Reset(columns);
      for (int parity = 0; parity < 2; ++parity) {
        good = good && folded_columns_[i][j][parity].Reset(rows_.bins * columns_.stride);
      }
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

Channels::Folded Channels::Fold(float a, float b, float c, float d) {
  const float sum = a + b, opposite_sum = c + d, difference = a - b, opposite_difference = c - d;
  return {
      {{sum + opposite_sum, sum - opposite_sum}, {difference - opposite_difference, difference + opposite_difference}}};
}

void Channels::FoldRows(int64_t row) {
  const float mean = static_cast<float>(mean_);
  const int64_t wide = Aligned(width_), middle = height_ / 2;
  const auto grey = [&](int64_t y) { return grey_.data() + (y + kRadius) * grey_row_ + kGreyLeft; };
  const float *a = grey(row), *c = grey(middle - row);
  const float *b = grey(row == 0 ? 0 : height_ - row), *d = grey(middle + row);
  float* to[2][2];
  for (int i = 0; i < 2; ++i) {
    for (int parity = 0; parity < 2; ++parity) to[i][parity] = folded_rows_[i][parity].data() + row * wide;
  }
  // The first and the middle element have no partner, and one in the middle of both is its own opposite.
  const float partner = row == 0 ? 0.0f : 1.0f, opposite = 2 * row == middle ? 0.0f : 1.0f;
  for (int64_t x = 0; x < width_; ++x) {
    const Folded f =
        Fold(a[x] - mean, partner * (b[x] - mean), opposite * (c[x] - mean), partner * opposite * (d[x] - mean));
    to[0][0][x] = f.of[0][0];
    to[0][1][x] = f.of[0][1];
    to[1][0][x] = partner * f.of[1][0];
    to[1][1][x] = partner * f.of[1][1];
  }
}

void Channels::FoldColumns(int64_t row) {
  const int64_t stride = columns_.stride, middle = width_ / 2;
  for (int i = 0; i < 2; ++i) {
    const float* x = half_[i].data() + row * Aligned(width_);
    float* to[2][2];
    for (int j = 0; j < 2; ++j) {
      for (int parity = 0; parity < 2; ++parity) {
        to[j][parity] = folded_columns_[i][j][parity].data() + row * stride;
      }
    }
    const auto put = [&](int64_t k, const Folded& f) {
      for (int j = 0; j < 2; ++j) {
        for (int parity = 0; parity < 2; ++parity) to[j][parity][k] = f.of[j][parity];
      }
    };
    // The first and the middle element have no partner, and one in the middle of both is its own opposite.
    put(0, {{{x[0] + x[middle], x[0] - x[middle]}, {0.0f, 0.0f}}});
    const int64_t last = (middle + 1) / 2;
    for (int64_t k = 1; k < last; ++k) put(k, Fold(x[k], x[width_ - k], x[middle - k], x[middle + k]));
    if (middle % 2 == 0) put(last, Fold(x[last], x[width_ - last], 0.0f, 0.0f));
  }
}

// Writes a row of the spectrum with the zero frequency in the center. The missing half follows from
// |F(-u, -v)| = |F(u, v)|.
void Channels::PlaceSpectrum(float* plane, int64_t row) {
  const int64_t u = row - height_ / 2, middle = width_ / 2, stride = 2 * columns_.stride;
  float* center = plane + (row + 1) * row_ + 1 + middle;
  const float* right = quadrants_[u < 0 ? 1 : 0].data() + std::abs(u) * stride;
  const float* left = quadrants_[u < 0 ? 0 : 1].data() + std::abs(u) * stride;
  for (int64_t v = 0; v < middle; v += 2) center[v] = right[v / 2];
  for (int64_t v = 1; v < middle; v += 2) center[v] = right[columns_.stride + v / 2];
  for (int64_t v = 2; v <= middle; v += 2) center[-v] = left[v / 2];
  for (int64_t v = 1; v <= middle; v += 2) center[-v] = left[columns_.stride + v / 2];
}

// Part `item` of the transform down the columns: cosines or sines, of even or odd frequencies.
void Channels::TransformRows(int64_t item, int64_t items) {
  const int64_t wide = Aligned(width_), part = item / items, first = item % items * kRowsOfItem;
  const int sines = static_cast<int>(part / 2), parity = static_cast<int>(part % 2);
  const int64_t count = std::min(kRowsOfItem, rows_.BinsOf(parity) - first);
  if (count <= 0) return;
  kernels_->gemm_f32({rows_.tables[sines][parity].data() + first * rows_.stride, rows_.stride},
                     {folded_rows_[sines][parity].data(), wide},
                     {half_[sines].data() + (2 * first + parity) * wide, 2 * wide}, count, wide, rows_.depth);
}

void Channels::ComputeSpectrum(const ChannelsSpec::Plane& plane) {
  const KernelSet& kernels = *kernels_;
  int64_t sum = 0;
  for (int64_t y = 0; y < height_; ++y) sum += row_sums_[y];
  // Subtracting an integer near the mean keeps the transform accurate. It is added back at the zero frequency.
  mean_ = (2 * sum + height_ * width_) / (2 * height_ * width_);
  const auto items_of = [](int64_t rows) { return (rows + kRowsOfItem - 1) / kRowsOfItem; };
  const int64_t items = items_of(rows_.depth);
  pool_->ForEach(items, [&](int64_t item) {
    const int64_t last = std::min(rows_.depth, (item + 1) * kRowsOfItem);
    for (int64_t row = item * kRowsOfItem; row < last; ++row) FoldRows(row);
  });
  pool_->ForEach(4 * items, [&](int64_t item) { TransformRows(item, items); });
  pool_->ForEach(items_of(rows_.bins), [&](int64_t item) {
    const int64_t first = item * kRowsOfItem, count = std::min(kRowsOfItem, rows_.bins - first);
    const int64_t stride = columns_.stride;
    for (int64_t row = first; row < first + count; ++row) FoldColumns(row);
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 2; ++j) {
        for (int parity = 0; parity < 2; ++parity) {
          kernels.gemm_f32({folded_columns_[i][j][parity].data() + first * stride, stride},
                           {columns_.tables[j][parity].data(), stride},
                           {parts_[i][j].data() + first * 2 * stride + parity * stride, 2 * stride}, count, stride,
                           columns_.depth);
        }
      }
    }
    if (item == 0) parts_[0][0][0] += static_cast<float>(mean_ * height_ * width_);
    for (int64_t row = first; row < first + count; ++row) {
      const int64_t r = row * 2 * stride;
      kernels.log_magnitude_f32(
          {parts_[0][0].data() + r, parts_[0][1].data() + r, parts_[1][0].data() + r, parts_[1][1].data() + r,
           plane.offset, plane.scale, quadrants_[0].data() + r, quadrants_[1].data() + r},
          2 * stride);
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
