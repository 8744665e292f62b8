#include "channels.h"

#include <algorithm>
#include <cmath>
#include <new>

namespace bdd {
namespace {

constexpr int kRadius = 6, kBack = 3;  // of the pattern's points: columns to the right and to the left
constexpr int64_t kGreyLeft = 16;      // zeros left of a row of grey levels; at least kBack, and aligned
constexpr int64_t kRowsOfItem = 16;
constexpr int64_t kAlign = 16;  // floats

int64_t Aligned(int64_t count) { return (count + kAlign - 1) / kAlign * kAlign; }

class Channels final : public Operator {
 public:
  explicit Channels(const ChannelsSpec& spec) : spec_(spec) {}

  bool Prepare(const Value* const* inputs, int count, const KernelSet& kernels, Value* output, Message* why) override;
  void Run(const void* input, void* output, ThreadPool* pool) override;
  bool GivesPlanes(bool wanted) override {
    planar_ = wanted;
    return true;
  }

 private:
  // A DFT of a real sequence of even length, its two halves folded onto each other: cosines see the sum of x[i] and
  // x[size - i], sines their difference.
  struct Transform {
    int64_t bins = 0;              // frequencies 0 to size / 2
    int64_t stride = 0;            // of a row of the tables below
    Buffer<float> cosines, sines;  // [bins][bins], [bins][bins]; place 0 and the last of the sines are 0
  };

  bool Tabulate(int64_t size, bool transposed, Transform* transform);
  float* Plane(int64_t i) { return planes_.data() + i * plane_; }
  void ReadRows(int64_t first, int64_t last);
  void FoldRows(int64_t row);
  void FoldColumns(int64_t row);
  void PlaceSpectrum(float* plane, int64_t row);
  void Spectrum(const ChannelsSpec::Plane& made);
  void Pattern(const ChannelsSpec::Plane& made, float* plane, int64_t row);
  void Mix(int64_t row);

  ChannelsSpec spec_;
  const KernelSet* kernels_ = nullptr;
  ThreadPool* pool_ = nullptr;
  bool planar_ = false;
  int32_t batch_ = 0;
  int64_t height_ = 0, width_ = 0;
  int64_t row_ = 0, plane_ = 0;  // floats of a row of a plane, of a plane, both with a border
  int64_t grey_row_ = 0;
  Buffer<float> planes_, grey_, mixed_, weights_;
  Buffer<int64_t> row_sums_;
  Transform rows_, columns_;
  Buffer<float> even_, odd_;    // [bins of rows][width]: rows folded
  Buffer<float> half_[2];       // [bins of rows][width]: their cosines and sines
  Buffer<float> folded_[2][2];  // [bins of rows][bins of columns]: those folded, sum and difference
  Buffer<float> parts_[2][2];   // [bins][bins]: cosines or sines down, cosines or sines across
  Buffer<float> quadrants_[2];  // [bins][bins]: (u, v) and (-u, v)
  const uint8_t* image_ = nullptr;
  float* out_ = nullptr;
  int64_t mean_ = 0;
};

// Rows are frequencies, or (transposed) columns are: what stands in the second place is contiguous.
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
  if (count != 1 || inputs[0] == nullptr) return why->Set("not the one input it takes");
  const Shape& shape = inputs[0]->shape;
  if (inputs[0]->type != kTfLiteUInt8 || inputs[0]->constant != nullptr || shape.rank != 4 || shape.dims[0] < 1 ||
      shape.dims[3] != 3) {
    return why->Set("the input is not uint8 [N, H, W, 3]");
  }
  if (output->type != kTfLiteFloat32) return why->Set("the output is not float32");
  if (shape.dims[1] != spec_.height || shape.dims[2] != spec_.width) {
    return why->Set("an image of %d x %d; the model is made for %d x %d", shape.dims[1], shape.dims[2], spec_.height,
                    spec_.width);
  }
  if (Times(shape.Elements(), 4) < 0) return why->Set("images that large");
  kernels_ = &kernels;
  planar_ = false;
  batch_ = shape.dims[0];
  output->shape = shape;
  height_ = spec_.height;
  width_ = spec_.width;
  row_ = Aligned(width_ + 2) + kAlign;  // vectors may reach over a row's end
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
  if (!good) return why->Set("no memory for its maps");
  // From [O, y, x, C] to [C, y, x, O], then the bias.
  for (int64_t o = 0; o < kMixed; ++o) {
    for (int64_t tap = 0; tap < 9; ++tap) {
      for (int64_t c = 0; c < planes; ++c) {
        std::memcpy(&weights_[(c * 9 + tap) * kMixed + o],
                    static_cast<const uint8_t*>(spec_.filter) + 4 * ((o * 9 + tap) * planes + c), 4);
      }
    }
    std::memcpy(&weights_[9 * planes * kMixed + o], static_cast<const uint8_t*>(spec_.bias) + 4 * o, 4);
  }
  return true;
}

// Bytes to planes of floats, scaled, and grey levels as OpenCV's BGR2GRAY gives them for RGB taken as BGR.
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
    row_sums_[y] = kernels_->read_row(image_ + y * width_ * 3, width_, scales, to,
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

// A row of the whole spectrum, zero frequency in the centre, from the quadrants: |F(-u, -v)| = |F(u, v)|.
void Channels::PlaceSpectrum(float* plane, int64_t row) {
  float* to = plane + (row + 1) * row_ + 1;
  const int64_t u = row - height_ / 2, middle = width_ / 2;
  const float* right = quadrants_[u < 0 ? 1 : 0].data() + std::abs(u) * columns_.stride;
  const float* left = quadrants_[u < 0 ? 0 : 1].data() + std::abs(u) * columns_.stride;
  for (int64_t x = 0; x < middle; ++x) to[x] = left[middle - x];
  std::memcpy(to + middle, right, static_cast<size_t>(middle) * sizeof(float));
}

void Channels::Spectrum(const ChannelsSpec::Plane& made) {
  const KernelSet& kernels = *kernels_;
  const int64_t bins = rows_.bins, wide = Aligned(width_);
  int64_t sum = 0;
  for (int64_t y = 0; y < height_; ++y) sum += row_sums_[y];
  // Any whole number near the mean keeps the transform exact where it matters; it returns at the zero frequency.
  mean_ = (2 * sum + height_ * width_) / (2 * height_ * width_);
  const int64_t items = (bins + kRowsOfItem - 1) / kRowsOfItem;
  pool_->ForEach(items, [&](int64_t item) {
    const int64_t last = std::min(bins, (item + 1) * kRowsOfItem);
    for (int64_t row = item * kRowsOfItem; row < last; ++row) FoldRows(row);
  });
  pool_->ForEach(2 * items, [&](int64_t item) {
    const int64_t sines = item % 2, first = item / 2 * kRowsOfItem, count = std::min(kRowsOfItem, bins - first);
    const Buffer<float>& table = sines ? rows_.sines : rows_.cosines;
    kernels.matrix_product(table.data() + first * rows_.stride, rows_.stride, (sines ? odd_ : even_).data(), wide,
                           half_[sines].data() + first * wide, wide, count, wide, bins);
  });
  pool_->ForEach(items, [&](int64_t item) {
    const int64_t first = item * kRowsOfItem, count = std::min(kRowsOfItem, bins - first);
    const int64_t stride = columns_.stride, at = first * stride;
    for (int64_t row = first; row < first + count; ++row) FoldColumns(row);
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < 2; ++j) {
        kernels.matrix_product(folded_[i][j].data() + at, stride, (j ? columns_.sines : columns_.cosines).data(),
                               stride, parts_[i][j].data() + at, stride, count, stride, columns_.bins);
      }
    }
    if (item == 0) parts_[0][0][0] += static_cast<float>(mean_ * height_ * width_);
    for (int64_t row = first; row < first + count; ++row) {
      const int64_t r = row * stride;
      kernels.log_magnitudes(parts_[0][0].data() + r, parts_[0][1].data() + r, parts_[1][0].data() + r,
                             parts_[1][1].data() + r, stride, made.offset, made.scale, quadrants_[0].data() + r,
                             quadrants_[1].data() + r);
    }
  });
}

void Channels::Pattern(const ChannelsSpec::Plane& made, float* plane, int64_t row) {
  const float* centre = grey_.data() + (row + kRadius) * grey_row_ + kGreyLeft;
  const float* points[5] = {centre + kRadius, centre - kRadius * grey_row_ - kBack,
                            centre - (kRadius - 1) * grey_row_ - kBack, centre + kRadius * grey_row_ - kBack,
                            centre + (kRadius - 1) * grey_row_ - kBack};
  kernels_->pattern_row(centre, points, width_, made.scale, plane + (row + 1) * row_ + 1);
}

void Channels::Mix(int64_t row) {
  const auto planes = static_cast<int64_t>(spec_.planes.size());
  const int64_t wide = Aligned(width_), apart = planar_ ? height_ * width_ : wide;
  float* to = planar_ ? out_ + row * width_ : mixed_.data() + row * kMixed * wide;
  kernels_->mix_row(planes_.data() + row * row_, plane_, row_, planes, weights_.data(), width_, to, apart);
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
      const ChannelsSpec::Plane& made = spec_.planes[p];
      if (made.kind == ChannelsSpec::Plane::kSpectrum) Spectrum(made);
    }
    pool_->ForEach(items, [&](int64_t item) {
      for (size_t p = 0; p < spec_.planes.size(); ++p) {
        const ChannelsSpec::Plane& made = spec_.planes[p];
        for (int64_t row = item * kRowsOfItem; row < last(item); ++row) {
          if (made.kind == ChannelsSpec::Plane::kPattern) Pattern(made, Plane(static_cast<int64_t>(p)), row);
          if (made.kind == ChannelsSpec::Plane::kSpectrum) PlaceSpectrum(Plane(static_cast<int64_t>(p)), row);
        }
      }
    });
    pool_->ForEach(items, [&](int64_t item) {
      for (int64_t row = item * kRowsOfItem; row < last(item); ++row) Mix(row);
    });
  }
}

}  // namespace

std::unique_ptr<Operator> MakeChannels(const ChannelsSpec& spec) {
  return std::unique_ptr<Operator>(new (std::nothrow) Channels(spec));
}

}  // namespace bdd
