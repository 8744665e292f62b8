#include "interpreter/padded_map.h"

#include <algorithm>

#include "kernels/kernel_set.h"
#include "tflite/builtin_ops.h"

namespace bdd {
namespace {

constexpr int64_t kMinShared = 1 << 16;  // floats below which threads cost more than they save
constexpr int64_t kMinParted = 1 << 16;  // floats of a map below which its copy costs less than windows of two kinds

}  // namespace

PaddedMap::Inside PaddedMap::InsideOf(const Window& window) {
  Inside inside;
  const int64_t room = int64_t{window.input} + window.before - window.Reach();  // of the last window's beginning
  inside.first = std::min<int64_t>((int64_t{window.before} + window.stride - 1) / window.stride, window.output);
  inside.end = room < 0 ? 0 : std::min<int64_t>(room / window.stride + 1, window.output);
  inside.end = std::max(inside.end, inside.first);
  return inside;
}

bool PaddedMap::Prepare(const Geometry& g, const Shape& map, int32_t height, int32_t width, Message* why) {
  constexpr int32_t kMaxParameter = 1 << 12;
  if (g.padding != kTfLitePaddingSame && g.padding != kTfLitePaddingValid) return why->Set("an unknown padding");
  for (const int32_t number : {g.stride_width, g.stride_height, g.dilation_width, g.dilation_height, height, width}) {
    if (number < 1 || number > kMaxParameter) return why->Set("an impossible window, stride or dilation");
  }
  rows_ = {height, g.stride_height, g.dilation_height};
  columns_ = {width, g.stride_width, g.dilation_width};
  const bool same = g.padding == kTfLitePaddingSame;
  if (!rows_.Fit(map.dims[1], same) || !columns_.Fit(map.dims[2], same)) return why->Set("no window fits the map");
  depth_ = map.dims[3];
  const int64_t whole = Times(Times(rows_.padded, columns_.padded), depth_);
  if (whole < 1 || whole >= INT32_MAX - kTileChannels) return why->Set("the padded map is too large");
  inside_rows_ = InsideOf(rows_);
  inside_columns_ = InsideOf(columns_);
  window_ = int64_t{height} * width * depth_;
  const int64_t border = Times(pixels() - inside_rows_.count() * inside_columns_.count(), window_);
  whole_ = border < 0 || border > whole || whole < kMinParted;
  count_ = whole_ ? whole : border;
  return true;
}

void PaddedMap::AlwaysCopy() {
  whole_ = true;
  count_ = int64_t{rows_.padded} * columns_.padded * depth_;
}

bool PaddedMap::Allocate(Message* why) {
  // Behind a window at the border, too, kernels may read what they do not use.
  return count_ == 0 || copy_.Reset(count_ + kTileChannels) || why->Set("no memory for the padded map");
}

void PaddedMap::SetShape(int32_t channels, Shape* shape) const {
  shape->dims[1] = rows_.output;
  shape->dims[2] = columns_.output;
  shape->dims[3] = channels;
}

const float* PaddedMap::Load(const float* map, ThreadPool* threads) {
  if (count_ == 0) return map;
  const int64_t items = whole_ ? rows_.input : rows_.output;
  const auto copy = [&](int64_t y) { whole_ ? CopyRow(map, y) : CopyBorder(map, y); };
  if (count_ >= kMinShared) {
    threads->ForEach(items, copy);
  } else {
    for (int64_t y = 0; y < items; ++y) copy(y);
  }
  return whole_ ? copy_.data() : map;
}

void PaddedMap::CopyRow(const float* map, int64_t y) {
  const int64_t row = int64_t{columns_.input} * depth_, padded = int64_t{columns_.padded} * depth_;
  std::copy(map + y * row, map + (y + 1) * row,
            copy_.data() + (rows_.before + y) * padded + int64_t{columns_.before} * depth_);
}

void PaddedMap::CopyBorder(const float* map, int64_t y) {
  for (int64_t x = 0; x < columns_.output; ++x) {
    if (!IsInside(y, x)) {
      CopyWindow(map, y, x);
    } else {
      x = inside_columns_.end - 1;
    }
  }
}

// What lies outside the map is zero since Allocate.
void PaddedMap::CopyWindow(const float* map, int64_t y, int64_t x) {
  float* to = copy_.data() + BorderNumber(y, x) * window_;
  for (int64_t i = 0; i < rows_.size; ++i) {
    const int64_t row = y * rows_.stride - rows_.before + i * rows_.dilation;
    if (row < 0 || row >= rows_.input) continue;
    // Columns [first, end) of the filter lie inside, beside each other unless it is dilated.
    const int64_t left = x * columns_.stride - columns_.before, gap = columns_.dilation;
    const int64_t first = left < 0 ? (gap - 1 - left) / gap : 0;
    const int64_t end = std::min<int64_t>(columns_.size, (columns_.input - left + gap - 1) / gap);
    const int64_t run = gap == 1 ? end - first : 1;
    for (int64_t j = first; j < end; j += run) {
      const float* from = map + (row * columns_.input + left + j * gap) * depth_;
      std::copy(from, from + run * depth_, to + (i * columns_.size + j) * depth_);
    }
  }
}

int64_t PaddedMap::BorderNumber(int64_t y, int64_t x) const {
  const int64_t beside = columns_.output - inside_columns_.count();  // border pixels of a row with others
  if (y < inside_rows_.first) return y * columns_.output + x;
  const int64_t above = inside_rows_.first * columns_.output;
  if (y >= inside_rows_.end) {
    return above + inside_rows_.count() * beside + (y - inside_rows_.end) * columns_.output + x;
  }
  return above + (y - inside_rows_.first) * beside + (x < inside_columns_.first ? x : x - inside_columns_.count());
}

int PaddedMap::Point(const float* loaded, int64_t first, int count, const float** windows, bool* in_copy) const {
  int64_t y = first / columns_.output, x = first % columns_.output;
  const bool inside = IsInside(y, x);
  *in_copy = !inside;
  const int64_t stride = whole_ ? columns_.padded : columns_.input;
  const int64_t top = whole_ ? 0 : rows_.before, left = whole_ ? 0 : columns_.before;
  const int64_t end = whole_ ? columns_.output : inside_columns_.end, step = columns_.stride * depth_;
  int m = 0;
  while (m < count && IsInside(y, x) == inside) {
    if (inside) {
      const float* window = loaded + ((y * rows_.stride - top) * stride + x * columns_.stride - left) * depth_;
      for (; m < count && x < end; ++x, window += step) windows[m++] = window;
    } else {
      windows[m++] = copy_.data() + BorderNumber(y, x++) * window_;
    }
    if (x == columns_.output) {
      x = 0;
      ++y;
    }
  }
  return m;
}

}  // namespace bdd
