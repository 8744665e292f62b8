#include "detector/rule.h"

#include <cmath>

#include "detector/json.h"

namespace bdd {
namespace {

constexpr int kNewestFormat = 2, kViewsFormat = 2;
constexpr int kMaxInputSide = 10'000;  // whose square is kMaxImagePixels
constexpr size_t kMaxText = 1 << 20;

bool ReadViews(const JsonValue& values, ViewRule* rule) {
  const JsonValue scale = values["scale"];
  if (!values["size"].Whole(16, ViewRule::kMaxSize, &rule->size) ||
      !values["count"].Whole(1, ViewRule::kMaxCount, &rule->count) || scale.kind() != JsonValue::kArray) {
    return false;
  }
  for (int i = 0; i <= ViewRule::kMaxCount; ++i) {
    double factor = 0.0;
    const JsonValue entry = scale.At(i);
    if (entry.kind() == JsonValue::kMissing) return i > 0;
    if (i == ViewRule::kMaxCount || !entry.Number(&factor) || !(factor > 0.0)) return false;
    rule->scale.push_back(factor);
  }
  return false;
}

bool ReadResize(const JsonValue& values, ResizeRule* rule) {
  const JsonValue filter = values["interpolation"];
  return values["size"].Whole(1, kMaxInputSide, &rule->size) &&
         values["shorter_side"].Whole(rule->size, kMaxInputSide, &rule->shorter_side) &&
         (filter.kind() == JsonValue::kMissing || filter.IsText("bilinear"));
}

bool ReadRange(const JsonValue& values, Range* range) {
  return values.At(0).Number(&range->low) && values.At(1).Number(&range->high) &&
         values.At(2).kind() == JsonValue::kMissing && range->low >= 0.0 && range->low <= range->high;
}

}  // namespace

bool ReadRule(const char* text, size_t size, DetectorRule* rule, Message* why) {
  if (text == nullptr) return why->Set("the file has no metadata of a detector");
  const JsonValue all = size <= kMaxText ? JsonValue::Parse(text, size) : JsonValue();
  if (all.kind() != JsonValue::kObject) return why->Set("the file's metadata is no JSON of a detector");
  int format = 0;
  // Checked first, because a later format may change all other keys.
  if (!all["format"].Whole(1, kNewestFormat, &format)) {
    return why->Set("the file's metadata has a format that this version does not read; it reads 1 and 2");
  }
  const JsonValue views = all["views"], resize = all["resize"], trained = all["trained_on"];
  rule->native = views.kind() != JsonValue::kMissing;
  if (rule->native && (format < kViewsFormat || resize.kind() != JsonValue::kMissing)) {
    return why->Set("the file's metadata is damaged: it has the key views beside %s",
                    format < kViewsFormat ? "format 1" : "the key resize");
  }
  if (rule->native ? !ReadViews(views, &rule->views) : !ReadResize(resize, &rule->resize)) {
    return why->Set("the file's metadata is damaged: the rule for %s is impossible",
                    rule->native ? "native crops" : "resizing");
  }
  const JsonValue labels = all["labels"];
  if (!labels.At(0).IsText("REAL") || !labels.At(1).IsText("FAKE") || labels.At(2).kind() != JsonValue::kMissing) {
    return why->Set("the file's metadata is damaged: the labels are not REAL and FAKE");
  }
  if (!all["threshold"].Number(&rule->threshold) || !(rule->threshold >= 0.0 && rule->threshold <= 1.0)) {
    return why->Set("the file's metadata is damaged: the threshold is no number in [0, 1]");
  }
  const JsonValue band = all["unsure"];
  rule->has_band = band.kind() != JsonValue::kMissing && band.kind() != JsonValue::kNull;
  if (rule->has_band && (format < kViewsFormat || !ReadRange(band, &rule->band) || rule->band.low >= rule->band.high ||
                         rule->band.high > 1.0)) {
    return why->Set(
        "the file's metadata is damaged: the band unsure is not two rising numbers in [0, 1], or the format is 1");
  }
  rule->has_training = trained.kind() != JsonValue::kMissing && trained.kind() != JsonValue::kNull;
  if (rule->has_training &&
      (!ReadRange(trained["sides"], &rule->sides) || !ReadRange(trained["contrast"], &rule->contrast) ||
       !ReadRange(trained["detail"], &rule->detail))) {
    return why->Set("the file's metadata is damaged: the ranges of the training images are impossible");
  }
  return true;
}

}  // namespace bdd
