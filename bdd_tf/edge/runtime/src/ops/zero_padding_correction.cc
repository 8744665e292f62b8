// Finds the classes of rows and columns, and sums the signs of the taps outside for each pair of them.
#include "ops/zero_padding_correction.h"

namespace bdd {
namespace {

// Whether a tap of the window at this output position lies in the padding.
bool IsOutside(const Window& w, int64_t position, int64_t tap) {
  const int64_t at = position * w.stride + tap * w.dilation - w.before;
  return at < 0 || at >= w.input;
}

// Classifies the output positions along one axis: neighbours with the same taps outside share a class. examples[c] is a
// position of class c. Returns the number of classes, or -1 if there is no memory.
int32_t Classify(const Window& w, Buffer<int32_t>* classes, Buffer<int32_t>* examples) {
  if (!classes->Reset(w.output) || !examples->Reset(int64_t{w.output} + 1)) return -1;
  int32_t count = 1;
  for (int32_t position = 0; position < w.output; ++position) {
    bool any = false, as_before = position > 0;
    for (int32_t tap = 0; tap < w.size; ++tap) {
      const bool outside = IsOutside(w, position, tap);
      any = any || outside;
      as_before = as_before && outside == IsOutside(w, position - 1, tap);
    }
    if (!any) continue;
    if (!as_before) (*examples)[count++] = position;
    (*classes)[position] = count - 1;
  }
  return count;
}

}  // namespace

bool ZeroPaddingCorrection::Plan(const Bconv2dGeometry& g, const PackedFilter& filter, Message* why) {
  active_ = false;
  const bool padded = g.rows.padded != g.rows.input || g.columns.padded != g.columns.input;
  if (g.pad_values != 0 || !g.same || !padded) return true;
  if (Times(g.rows.output, g.rows.size) < 0 || Times(g.columns.output, g.columns.size) < 0) {
    return why->Set("the map is too large");
  }
  Buffer<int32_t> row_examples, column_examples;
  const int32_t row_classes = Classify(g.rows, &row_class_, &row_examples);
  column_classes_ = Classify(g.columns, &column_class_, &column_examples);
  channels_ = g.padded_channels();
  const int64_t pairs = row_classes < 0 || column_classes_ < 0 ? -1 : Times(row_classes, column_classes_);
  const int64_t window = g.window();
  if (Times(Times(pairs, channels_), window) < 0) return why->Set("the window is too large for zero padding");
  Buffer<int32_t> tap_sums;  // [taps][channels]
  if (!corrections_.Reset(Times(pairs, channels_)) || !tap_sums.Reset(Times(window, channels_))) {
    return why->Set("no memory for the corrections of %lld kinds of borders", static_cast<long long>(pairs));
  }
  filter.SumTaps(g, tap_sums.data());
  for (int64_t r = 0; r < row_classes; ++r) {
    for (int64_t c = 0; c < column_classes_; ++c) {
      int32_t* correction = corrections_.data() + (r * column_classes_ + c) * channels_;
      for (int64_t tap = 0; tap < window; ++tap) {
        const bool outside = (r > 0 && IsOutside(g.rows, row_examples[r], tap / g.columns.size)) ||
                             (c > 0 && IsOutside(g.columns, column_examples[c], tap % g.columns.size));
        if (!outside) continue;
        for (int64_t i = 0; i < channels_; ++i) correction[i] += tap_sums[tap * channels_ + i];
      }
    }
  }
  active_ = true;
  return true;
}

}  // namespace bdd
