// Scores images of any size with a detector: cuts or resizes them as its file says, and combines the scores.
#pragma once

#include <vector>

#include "detector/rule.h"
#include "images/pixels.h"
#include "interpreter/interpreter.h"

namespace bdd {

class Detector {
 public:
  // Reads the rule of a file's metadata. Returns false and the reason if there is none, or it does not fit the network.
  bool Load(const char* metadata, size_t size, const Interpreter& interpreter, Message* why);

  bool Reserve(int width, int height, Message* why);
  bool Score(const PixelReader& image, Interpreter* interpreter, bdd_verdict* verdict, Message* why);

  int count() const { return count_; }
  bdd_box box(int index) const { return rule_.native ? cutter_.box(index) : box_; }
  float score(int index) const { return scores_[static_cast<size_t>(index)]; }
  const uint8_t* pixels(int index) const { return pixels_.data() + index * CropBytes(); }

 private:
  int64_t CropBytes() const { return int64_t{rule_.size()} * rule_.size() * 3; }
  bool PrepareBatch(const Interpreter& interpreter, Message* why);
  double Combined() const;
  int Deviation(const PixelReader& image) const;
  int UnusualCrops() const;

  DetectorRule rule_;
  ViewCutter cutter_;
  Resizer resizer_;
  bdd_box box_ = {};
  int count_ = 0;
  int64_t slots_ = 0;  // crops that `pixels_` has room for: a multiple of the batch
  Buffer<uint8_t> pixels_;
  std::vector<float> scores_;
};

}  // namespace bdd
