// Passes over an image: (1) bytes to planes of RGB and of luma, (2) sums and differences of luma, row by row.
//
// Sums over four rows serve all three details of the coarser scale: with the sum s and the difference d of the upper
// and the lower two rows, LH is s to the left minus s to the right, HL is all of d, and HH is d to the left minus d to
// the right.
#include "ops/detail_channels.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace bdd {
namespace {

constexpr int64_t kRowsOfItem = 16;
constexpr int64_t kChunk = 64;  // pixels that are computed at once
constexpr int64_t kBefore = 1;  // mirrored pixels before the first one of a row
constexpr int64_t kAfter = 2;   // and after the last one
constexpr int64_t kSlack = 16;  // floats after a row
constexpr float kThousandth = 0.001f;

// A row index outside the image, mirrored without repeating the border.
int64_t Mirrored(int64_t row, int64_t rows) {
  if (row < 0) return -row;
  return row < rows ? row : 2 * rows - 2 - row;
}

class Details final : public PlanarOperator {
 public:
  explicit Details(const DetailsSpec& spec) : spec_(spec) {}

  bool Prepare(const Value* const* inputs, int count, const KernelSet& kernels, Value* output, Message* why) override;
  void Run(const void* input, void* output, ThreadPool* pool) override;

 private:
  // Results of kChunk pixels, plane by plane.
  using Chunk = float[kDetailPlanes][kChunk];

  void ReadRow(const uint8_t* rgb, int64_t y);
  void ComputeChunk(int64_t y, int64_t first, int64_t count, Chunk* out) const;
  void WriteChunk(const Chunk& chunk, int64_t y, int64_t first, int64_t count, float* out) const;

  DetailsSpec spec_;
  const KernelSet* kernels_ = nullptr;
  int32_t batch_ = 0;
  int64_t height_ = 0, width_ = 0, row_ = 0;
  Buffer<float> colours_[3], luma_, unused_;  // [height][row_]
};

bool Details::Prepare(const Value* const* inputs, int count, const KernelSet& kernels, Value* output, Message* why) {
  if (!CheckImages(inputs, count, spec_.height, spec_.width, *output, why)) return false;
  const Shape& shape = inputs[0]->shape;
  if (spec_.height < 3 || spec_.width < 3) return why->Set("the image is too small to be mirrored");
  kernels_ = &kernels;
  planar_ = false;
  batch_ = shape.dims[0];
  output->shape = shape;
  output->shape.dims[3] = kDetailPlanes;
  if (Times(output->shape.Elements(), 4) < 0) return why->Set("the images are too large");
  height_ = spec_.height;
  width_ = spec_.width;
  row_ = kBefore + width_ + kAfter + kSlack;
  const int64_t size = Times(height_, row_);
  bool good = luma_.Reset(size) && unused_.Reset(size);
  for (Buffer<float>& colour : colours_) good = good && colour.Reset(size);
  return good || why->Set("no memory for its maps");
}

void Details::ReadRow(const uint8_t* rgb, int64_t y) {
  constexpr float kOnes[3] = {1.0f, 1.0f, 1.0f};
  float* planes[3] = {colours_[0].data() + y * row_, colours_[1].data() + y * row_, colours_[2].data() + y * row_};
  kernels_->rgb_to_planes_u8_f32(rgb + y * width_ * 3, width_, kOnes, planes, unused_.data() + y * row_);
  const float *red = planes[0], *green = planes[1], *blue = planes[2];
  float* luma = luma_.data() + y * row_ + kBefore;
  for (int64_t x = 0; x < width_; ++x) {
    luma[x] = kLumaThousandths[0] * red[x] + kLumaThousandths[1] * green[x] + kLumaThousandths[2] * blue[x];
  }
  luma[-1] = luma[1];
  luma[width_] = luma[width_ - 2];
  luma[width_ + 1] = luma[width_ - 3];
}

// Clips and normalizes the six details of one pixel; a detail is in thousandths of a grey level times its weight.
void Details::ComputeChunk(int64_t y, int64_t first, int64_t count, Chunk* out) const {
  const float* rows[4] = {};
  for (int64_t i = 0; i < 4; ++i) rows[i] = luma_.data() + Mirrored(y - 1 + i, height_) * row_ + first;
  const float *row0 = rows[0], *row1 = rows[1], *row2 = rows[2], *row3 = rows[3];
  float sums[kChunk + 3], differences[kChunk + 3];
  for (int64_t x = 0; x < count + 3; ++x) {
    const float above = row0[x] + row1[x], below = row2[x] + row3[x];
    sums[x] = above + below;
    differences[x] = above - below;
  }
  float details[kDetails][kChunk];
  for (int64_t x = 0; x < count; ++x) {
    const float a = row1[x + 1], b = row1[x + 2], c = row2[x + 1], d = row2[x + 2];
    details[0][x] = (a + c) - (b + d);
    details[1][x] = (a + b) - (c + d);
    details[2][x] = (a - c) - (b - d);
    const float left = differences[x] + differences[x + 1], right = differences[x + 2] + differences[x + 3];
    details[3][x] = (sums[x] + sums[x + 1]) - (sums[x + 2] + sums[x + 3]);
    details[4][x] = left + right;
    details[5][x] = left - right;
  }
  for (int i = 0; i < kDetails; ++i) {
    // Haar's weights: 1/2 for sums of four pixels; for sums of four means of four pixels, 1/8 of the pixels.
    const float weight = kThousandth / kDetailRange / (i < 3 ? 2.0f : 8.0f);
    const float half = 0.5f * spec_.factor[3 + i], shift = half - spec_.offset[3 + i];
    float* to = (*out)[3 + i];
    for (int64_t x = 0; x < count; ++x) {
      const float value = details[i][x] * weight;
      to[x] = std::min(std::max(value, -1.0f), 1.0f) * half + shift;
    }
  }
  for (int c = 0; c < 3; ++c) {
    const float* from = colours_[c].data() + y * row_ + first;
    const float factor = spec_.rgb_scale * spec_.factor[c], offset = spec_.offset[c];
    float* to = (*out)[c];
    for (int64_t x = 0; x < count; ++x) to[x] = from[x] * factor - offset;
  }
}

void Details::WriteChunk(const Chunk& chunk, int64_t y, int64_t first, int64_t count, float* out) const {
  const int64_t at = y * width_ + first;
  for (int64_t c = 0; c < kDetailPlanes; ++c) {
    if (planar_) {
      std::memcpy(out + c * height_ * width_ + at, chunk[c], static_cast<size_t>(count) * sizeof(float));
      continue;
    }
    for (int64_t x = 0; x < count; ++x) out[(at + x) * kDetailPlanes + c] = chunk[c][x];
  }
}

void Details::Run(const void* input, void* output, ThreadPool* pool) {
  const int64_t items = (height_ + kRowsOfItem - 1) / kRowsOfItem;
  const auto last = [&](int64_t item) { return std::min(height_, (item + 1) * kRowsOfItem); };
  for (int64_t n = 0; n < batch_; ++n) {
    const uint8_t* image = static_cast<const uint8_t*>(input) + n * height_ * width_ * 3;
    float* out = static_cast<float*>(output) + n * height_ * width_ * kDetailPlanes;
    pool->ForEach(items, [&](int64_t item) {
      for (int64_t y = item * kRowsOfItem; y < last(item); ++y) ReadRow(image, y);
    });
    pool->ForEach(items, [&](int64_t item) {
      Chunk chunk;
      for (int64_t y = item * kRowsOfItem; y < last(item); ++y) {
        for (int64_t first = 0; first < width_; first += kChunk) {
          const int64_t count = std::min(kChunk, width_ - first);
          ComputeChunk(y, first, count, &chunk);
          WriteChunk(chunk, y, first, count, out);
        }
      }
    });
  }
}

}  // namespace

std::unique_ptr<Operator> MakeDetails(const DetailsSpec& spec) {
  return std::unique_ptr<Operator>(new (std::nothrow) Details(spec));
}

}  // namespace bdd
