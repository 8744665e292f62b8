#include "images/native_views.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

namespace bdd {
namespace {

constexpr int kDark = 2, kBright = 253;

// The index that pads an axis by reflection, without repeating the border pixel: bdd_tf/edge/images/views.py,
// reflected().
int Reflected(int length, int size, int i) {
  if (length == 1) return 0;
  const int period = 2 * (length - 1), front = (size - length) / 2;
  const int k = ((i - front) % period + period) % period;
  return std::min(k, period - k);
}

}  // namespace

void ViewCutter::Axis::Set(int given, int size) {
  length = given;
  const int room = std::max(length, size) - size;
  count = std::min(kGrid, 1 + (2 * room + size - 1) / size);
  for (int j = 0; j < count; ++j) {
    starts[static_cast<size_t>(j)] = count == 1 ? room / 2 : static_cast<int>(int64_t{room} * j / (count - 1));
  }
}

bdd_box ViewCutter::box(int index) const {
  const int candidate = chosen_[static_cast<size_t>(index)];
  const auto column = static_cast<size_t>(candidate % across_.count);
  const auto row = static_cast<size_t>(candidate / across_.count);
  return {across_.length < size_ ? 0 : across_.starts[column], down_.length < size_ ? 0 : down_.starts[row],
          std::min(across_.length, size_), std::min(down_.length, size_)};
}

// Row `row` of a candidate's crop.
void ViewCutter::ReadRow(const PixelReader& image, int candidate, int row, uint8_t* rgb) const {
  const int left = across_.starts[static_cast<size_t>(candidate % across_.count)];
  const int top = down_.starts[static_cast<size_t>(candidate / across_.count)];
  const int y = down_.length < size_ ? Reflected(down_.length, size_, row) : top + row;
  if (across_.length >= size_) {
    image.Read(y, left, size_, rgb);
    return;
  }
  for (int x = 0; x < size_; ++x) image.Read(y, Reflected(across_.length, size_, x), 1, rgb + int64_t{x} * 3);
}

void ViewCutter::Cut(const PixelReader& image, int index, uint8_t* rgb) {
  const int candidate = chosen_[static_cast<size_t>(index)];
  for (int row = 0; row < size_; ++row) ReadRow(image, candidate, row, rgb + int64_t{row} * size_ * 3);
}

ViewCutter::Measure ViewCutter::MeasureOf(const PixelReader& image, int candidate) {
  Measure made;
  for (int row = 0; row < size_; ++row) {
    int16_t* line = lines_.data() + int64_t{row % 2} * size_;
    const int16_t* above = lines_.data() + int64_t{(row + 1) % 2} * size_;
    ReadRow(image, candidate, row, row_.data());
    const uint8_t* rgb = row_.data();
    for (int x = 0; x < size_; ++x, rgb += 3) {
      line[x] = static_cast<int16_t>((77 * rgb[0] + 150 * rgb[1] + 29 * rgb[2] + 128) >> 8);
    }
    int saturated = 0, energy = 0;
    for (int x = 0; x < size_; ++x) saturated += line[x] <= kDark || line[x] >= kBright;
    for (int x = 1; x < size_; ++x) energy += std::abs(line[x] - line[x - 1]);
    for (int x = 0; row > 0 && x < size_; ++x) energy += std::abs(line[x] - above[x]);
    made.saturated += saturated;
    made.energy += energy;
  }
  return made;
}

// The central candidate, the corners, then all from the middle of the ranking by energy outwards; each once.
void ViewCutter::Prefer(std::array<int, kGrid * kGrid>* order) const {
  const int count = Candidates(), columns = across_.count, rows = down_.count;
  std::array<int, kGrid * kGrid> ranked = {}, outwards = {};
  std::iota(ranked.begin(), ranked.begin() + count, 0);
  std::iota(outwards.begin(), outwards.begin() + count, 0);
  std::sort(ranked.begin(), ranked.begin() + count, [this](int a, int b) {
    const int64_t left = measures_[static_cast<size_t>(a)].energy, right = measures_[static_cast<size_t>(b)].energy;
    return left != right ? left < right : a < b;
  });
  std::sort(outwards.begin(), outwards.begin() + count, [count](int a, int b) {
    const int left = std::abs(2 * a - count + 1), right = std::abs(2 * b - count + 1);
    return left != right ? left < right : a < b;
  });
  std::array<bool, kGrid * kGrid> taken = {};
  size_t next = 0;
  const auto take = [&](int candidate) {
    if (taken[static_cast<size_t>(candidate)]) return;
    taken[static_cast<size_t>(candidate)] = true;
    (*order)[next++] = candidate;
  };
  take((rows - 1) / 2 * columns + (columns - 1) / 2);
  for (const int corner : {0, columns - 1, (rows - 1) * columns, count - 1}) take(corner);
  for (int i = 0; i < count; ++i) take(ranked[static_cast<size_t>(outwards[static_cast<size_t>(i)])]);
}

void ViewCutter::Choose(const ViewRule& rule, const PixelReader& image) {
  size_ = rule.size;
  across_.Set(image.width(), size_);
  down_.Set(image.height(), size_);
  padded_ = std::min(image.width(), image.height()) < size_;
  for (int i = 0; i < Candidates(); ++i) measures_[static_cast<size_t>(i)] = MeasureOf(image, i);
  std::array<int, kGrid * kGrid> order = {};
  Prefer(&order);
  const int64_t area = int64_t{size_} * size_;
  count_ = 0;
  for (int i = 0; i < Candidates() && count_ < rule.count; ++i) {
    const int candidate = order[static_cast<size_t>(i)];
    const Measure& found = measures_[static_cast<size_t>(candidate)];
    if (found.energy >= area && 4 * found.saturated <= area) chosen_[static_cast<size_t>(count_++)] = candidate;
  }
  featureless_ = count_ == 0;
  if (featureless_) chosen_[static_cast<size_t>(count_++)] = order[0];
}

}  // namespace bdd
