// Native crops of an image: bdd_tf/edge/images/views.py in C++, which describes the rule. All choices are of integers.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "images/pixels.h"
#include "support/memory.h"

namespace bdd {

struct ViewRule {
  static constexpr int kMaxCount = 64, kMaxSize = 512;
  int size = 0, count = 0;
  std::vector<double> scale;
};

// Chooses the crops of one image and reads their pixels.
class ViewCutter {
 public:
  // Prepares memory for crops of a size. Returns false if it is short.
  bool Reserve(int size) { return row_.Reset(int64_t{size} * 3) && lines_.Reset(int64_t{size} * 2); }

  // Chooses at most `rule.count` crops, in the order of preference. Needs Reserve(rule.size).
  void Choose(const ViewRule& rule, const PixelReader& image);

  int count() const { return count_; }
  bool padded() const { return padded_; }
  bool featureless() const { return featureless_; }  // every candidate is flat or saturated
  bdd_box box(int index) const;

  // Writes a chosen crop, size * size * 3 bytes.
  void Cut(const PixelReader& image, int index, uint8_t* rgb);

 private:
  static constexpr int kGrid = 8;  // the most candidates along one axis
  struct Axis {
    int count = 0, length = 0;
    std::array<int, kGrid> starts = {};
    void Set(int length, int size);
  };
  struct Measure {
    int64_t energy = 0, saturated = 0;
  };
  int Candidates() const { return across_.count * down_.count; }
  void ReadRow(const PixelReader& image, int candidate, int row, uint8_t* rgb) const;
  Measure MeasureOf(const PixelReader& image, int candidate);
  void Prefer(std::array<int, kGrid * kGrid>* order) const;

  int size_ = 0, count_ = 0;
  bool padded_ = false, featureless_ = false;
  Axis across_, down_;
  std::array<Measure, kGrid * kGrid> measures_ = {};
  std::array<int, kGrid * kGrid> chosen_ = {};
  Buffer<uint8_t> row_;
  Buffer<int16_t> lines_;  // luma of two rows
};

}  // namespace bdd
