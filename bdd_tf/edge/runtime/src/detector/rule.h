// The metadata of a detector that scoring needs; bdd_tf/edge/images/rules.py and bdd_tf/edge/detector.py check the
// same.
#pragma once

#include <cstddef>

#include "images/native_views.h"
#include "images/resize.h"
#include "include/bdd.h"
#include "ops/operator.h"

namespace bdd {

struct Range {
  double low = 0.0, high = 0.0;
  bool Has(double value) const { return value >= low && value <= high; }
};

struct DetectorRule {
  bool native = false;  // native crops; else one resized image
  ViewRule views;
  ResizeRule resize;
  double threshold = 0.5;
  bool has_band = false;  // whether scores inside `band` are not decided
  Range band;
  bool has_training = false;  // whether the ranges of the training images are known
  Range sides, contrast, detail;

  // labels.py, verdict().
  int Label(double probability, bool deviates) const {
    if (!has_band) return probability >= threshold ? BDD_FAKE : BDD_REAL;
    if (deviates || (probability > band.low && probability < band.high)) return BDD_UNSURE;
    return probability >= band.high ? BDD_FAKE : BDD_REAL;
  }
  int size() const { return native ? views.size : resize.size; }
};

// Returns false and the reason if the text is not the metadata of a detector.
bool ReadRule(const char* text, size_t size, DetectorRule* rule, Message* why);

}  // namespace bdd
