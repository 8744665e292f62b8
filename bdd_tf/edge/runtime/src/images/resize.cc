#include "images/resize.h"

#include <algorithm>
#include <cmath>

namespace bdd {
namespace {

constexpr int kFraction = 22;
constexpr int32_t kHalf = 1 << (kFraction - 1);

uint8_t Rounded(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kFraction, 0, 255)); }

// The nearest even of two equally near whole numbers, as Python's round().
int HalfOf(int64_t even_or_odd) {
  const int64_t half = even_or_odd / 2;
  return static_cast<int>(even_or_odd % 2 != 0 && half % 2 != 0 ? half + 1 : half);
}

double Triangle(double x) {
  x = std::fabs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

}  // namespace

bool Resizer::ResizedSize(const ResizeRule& rule, int width, int height, int64_t* across, int64_t* down, Message* why) {
  const int shorter = std::min(width, height), longer = std::max(width, height);
  const auto resized = static_cast<int64_t>(static_cast<double>(int64_t{rule.shorter_side} * longer) / shorter);
  if (resized * rule.shorter_side > kMaxImagePixels) {
    return why->Set("the image is too long and thin (%dx%d pixels)", width, height);
  }
  *across = width <= height ? rule.shorter_side : resized;
  *down = width <= height ? resized : rule.shorter_side;
  return true;
}

bool Resizer::Axis::Reserve(const ResizeRule& rule, int64_t length, int64_t resized_length) {
  const double support = std::max(static_cast<double>(length) / static_cast<double>(resized_length), 1.0);
  taps = static_cast<int>(std::ceil(support)) * 2 + 1;
  return first.Reset(rule.size) && count.Reset(rule.size) && weights.Reset(Times(rule.size, taps));
}

// The triangle filter, stretched by the factor by which the axis shrinks; weights of an output add up to 1.
void Resizer::Axis::Set(const ResizeRule& rule, int length, int resized_length) {
  resized = resized_length;
  crop = HalfOf(int64_t{resized} - rule.size);
  const double scale = static_cast<double>(length) / resized, support = std::max(scale, 1.0);
  for (int i = 0; i < rule.size; ++i) {
    const double centre = (i + crop + 0.5) * scale;
    const int from = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int to = std::min(static_cast<int>(centre + support + 0.5), length);
    int32_t* out = weights.data() + int64_t{i} * taps;
    first[i] = from;
    count[i] = to - from;
    double sum = 0.0;
    for (int x = from; x < to; ++x) sum += Triangle((x - centre + 0.5) * (1.0 / support));
    for (int x = from; x < to; ++x) {
      const double share = Triangle((x - centre + 0.5) * (1.0 / support)) / (sum != 0.0 ? sum : 1.0);
      out[x - from] = static_cast<int32_t>(0.5 + share * (1 << kFraction));
    }
  }
}

bool Resizer::Reserve(const ResizeRule& rule, int width, int height, Message* why) {
  int64_t across = 0, down = 0;
  if (!ResizedSize(rule, width, height, &across, &down, why)) return false;
  const int64_t row = int64_t{width} * 3, inputs = int64_t{rule.size} * 3;
  const bool good = across_.Reserve(rule, width, across) && down_.Reserve(rule, height, down) && row_.Reset(row) &&
                    narrow_.Reset(inputs) && sums_.Reset(std::max(row, Times(inputs, rule.size)));
  return good || why->Set("no memory to resize an image of %dx%d pixels", width, height);
}

bool Resizer::Apply(const ResizeRule& rule, const PixelReader& image, uint8_t* rgb, bdd_box* box, Message* why) {
  const int width = image.width(), height = image.height(), size = rule.size;
  int64_t across = 0, down = 0;
  if (!ResizedSize(rule, width, height, &across, &down, why) || !Reserve(rule, width, height, why)) return false;
  across_.Set(rule, width, static_cast<int>(across));
  down_.Set(rule, height, static_cast<int>(down));
  // Pillow's choice, which rounding makes visible: the pass that leaves less work to the other one comes first.
  const int64_t shorter = height - down, narrower = width - across;
  if (shorter > 0 && shorter > narrower * 2) {
    VerticalFirst(size, image, rgb);
  } else {
    HorizontalFirst(size, image, rgb);
  }
  const double right = static_cast<double>(width) / across_.resized,
               below = static_cast<double>(height) / down_.resized;
  *box = {static_cast<int>(std::nearbyint(across_.crop * right)), static_cast<int>(std::nearbyint(down_.crop * below)),
          std::max(1, static_cast<int>(std::nearbyint(size * right))),
          std::max(1, static_cast<int>(std::nearbyint(size * below)))};
  return true;
}

// Each row of the image is resized once, and added to the sums of all output rows that need it.
void Resizer::HorizontalFirst(int size, const PixelReader& image, uint8_t* rgb) {
  const int64_t row = int64_t{size} * 3;
  std::fill(sums_.data(), sums_.data() + row * size, kHalf);
  int oldest = 0;
  for (int y = down_.first[0]; y < image.height() && oldest < size; ++y) {
    image.Read(y, start(), stop() - start(), row_.data());
    Across(size, row_.data(), narrow_.data());
    for (int i = oldest; i < size && down_.first[i] <= y; ++i) {
      const int tap = y - down_.first[i];
      if (tap >= down_.count[i]) continue;
      const int32_t weight = down_.weights[int64_t{i} * down_.taps + tap];
      int32_t* sums = sums_.data() + i * row;
      for (int64_t x = 0; x < row; ++x) sums[x] += weight * narrow_[x];
    }
    for (; oldest < size && down_.first[oldest] + down_.count[oldest] <= y + 1; ++oldest) {
      for (int64_t x = oldest * row; x < (oldest + 1) * row; ++x) rgb[x] = Rounded(sums_[x]);
    }
  }
}

// Each output row is the weighted sum of rows of the image, which then is resized.
void Resizer::VerticalFirst(int size, const PixelReader& image, uint8_t* rgb) {
  const int64_t row = int64_t{stop() - start()} * 3;
  for (int i = 0; i < size; ++i) {
    std::fill(sums_.data(), sums_.data() + row, kHalf);
    for (int tap = 0; tap < down_.count[i]; ++tap) {
      image.Read(down_.first[i] + tap, start(), stop() - start(), row_.data());
      const int32_t weight = down_.weights[int64_t{i} * down_.taps + tap];
      for (int64_t x = 0; x < row; ++x) sums_[x] += weight * row_[x];
    }
    for (int64_t x = 0; x < row; ++x) row_[x] = Rounded(sums_[x]);
    Across(size, row_.data(), rgb + int64_t{i} * size * 3);
  }
}

// Resizes one row, which starts at pixel start() of the image.
void Resizer::Across(int size, const uint8_t* row, uint8_t* narrow) const {
  for (int i = 0; i < size; ++i) {
    const int32_t* weights = across_.weights.data() + int64_t{i} * across_.taps;
    const uint8_t* from = row + int64_t{across_.first[i] - start()} * 3;
    int32_t sum[3] = {kHalf, kHalf, kHalf};
    for (int tap = 0; tap < across_.count[i]; ++tap, from += 3) {
      for (int c = 0; c < 3; ++c) sum[c] += weights[tap] * from[c];
    }
    for (int c = 0; c < 3; ++c) narrow[int64_t{i} * 3 + c] = Rounded(sum[c]);
  }
}

}  // namespace bdd
