#include "detector/detector.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace bdd {
namespace {

constexpr double kLogitLimit = 13.8;  // of a probability of 1e-6: a score of exactly 0 or 1 has no logit
constexpr double kSizeFactor = 2.0;   // by which an image may leave the training images' sizes

struct Look {
  double contrast = 0.0, detail = 0.0;
};

// Standard deviation of the green channel, and the mean difference of its neighbours: out_of_distribution.py,
// measure().
Look LookOf(const uint8_t* rgb, int size) {
  const int64_t count = int64_t{size} * size;
  int64_t sum = 0, across = 0, down = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int value = rgb[i * 3 + 1];
    sum += value;
    if (i % size != 0) across += std::abs(value - rgb[(i - 1) * 3 + 1]);
    if (i >= size) down += std::abs(value - rgb[(i - size) * 3 + 1]);
  }
  const double mean = static_cast<double>(sum) / static_cast<double>(count);
  double squares = 0.0;
  for (int64_t i = 0; i < count; ++i) squares += (rgb[i * 3 + 1] - mean) * (rgb[i * 3 + 1] - mean);
  const double pairs = static_cast<double>(count - size);
  return {std::sqrt(squares / static_cast<double>(count)),
          size > 1 ? (static_cast<double>(across) / pairs + static_cast<double>(down) / pairs) / 2.0 : 0.0};
}

double Median(double* values, int count) {
  // Without a comparison of our own, the C++ library's sort of every arithmetic type would be linked: 100 kB.
  std::sort(values, values + count, [](double a, double b) { return a < b; });
  return (values[(count - 1) / 2] + values[count / 2]) / 2.0;
}

}  // namespace

bool Detector::Load(const char* metadata, size_t size, const Interpreter& interpreter, Message* why) {
  if (!ReadRule(metadata, size, &rule_, why)) return false;
  const Shape& input = interpreter.input_shape();
  if (input.dims[1] != rule_.size() || input.dims[2] != rule_.size()) {
    return why->Set("the file's rule makes images of %d pixels, and its network takes %dx%d", rule_.size(),
                    input.dims[2], input.dims[1]);
  }
  if (rule_.native && !cutter_.Reserve(rule_.size())) return why->Set("no memory for the crops");
  return PrepareBatch(interpreter, why);
}

// Room for all crops, and for what fills the last call up.
bool Detector::PrepareBatch(const Interpreter& interpreter, Message* why) {
  const int64_t batch = interpreter.input_shape().dims[0], most = rule_.native ? rule_.views.count : 1;
  const int64_t slots = (most + batch - 1) / batch * batch;
  if (slots == slots_) return true;
  if (!pixels_.Reset(Times(slots, CropBytes()))) return why->Set("no memory for %d crops", static_cast<int>(slots));
  scores_.assign(static_cast<size_t>(slots), 0.0f);
  slots_ = slots;
  return true;
}

bool Detector::Reserve(int width, int height, Message* why) {
  if (const char* problem = SizeProblem(width, height)) return why->Set("%s", problem);
  return rule_.native || resizer_.Reserve(rule_.resize, width, height, why);
}

bool Detector::Score(const PixelReader& image, Interpreter* interpreter, bdd_verdict* verdict, Message* why) {
  count_ = 0;
  if (!PrepareBatch(*interpreter, why)) return false;
  int count = 1;
  if (rule_.native) {
    cutter_.Choose(rule_.views, image);
    count = cutter_.count();
    for (int i = 0; i < count; ++i) cutter_.Cut(image, i, pixels_.data() + i * CropBytes());
  } else if (!resizer_.Apply(rule_.resize, image, pixels_.data(), &box_, why)) {
    return false;
  }
  const int batch = interpreter->input_shape().dims[0];
  for (int i = 0; i < count; i += batch) {
    if (!interpreter->Run(pixels_.data() + i * CropBytes(), scores_.data() + i, why)) return false;
  }
  for (int i = 0; i < count; ++i) {
    const float score = scores_[static_cast<size_t>(i)];
    if (!(score >= 0.0f && score <= 1.0f)) return why->Set("the model's output is no probability in [0, 1]");
  }
  count_ = count;
  verdict->probability = Combined();
  verdict->threshold = rule_.threshold;
  verdict->crops = count;
  verdict->highest = static_cast<int>(std::max_element(scores_.begin(), scores_.begin() + count) - scores_.begin());
  verdict->deviation = Deviation(image);
  verdict->label = rule_.Label(verdict->probability, verdict->deviation != BDD_USUAL);
  verdict->fake = verdict->label == BDD_FAKE;
  return true;
}

// The mean logit times the factor for the number of crops: views.py, ViewRule.combine().
double Detector::Combined() const {
  if (!rule_.native) return scores_[0];
  double sum = 0.0;
  for (int i = 0; i < count_; ++i) {
    const double score = scores_[static_cast<size_t>(i)];
    sum += std::clamp(std::log(score) - std::log1p(-score), -kLogitLimit, kLogitLimit);
  }
  const std::vector<double>& scale = rule_.views.scale;
  const double logit = scale[std::min(static_cast<size_t>(count_), scale.size()) - 1] * (sum / count_);
  // exp() of a large positive number overflows.
  const double odds = std::exp(-std::fabs(logit));
  return (logit >= 0.0 ? 1.0 : odds) / (1.0 + odds);
}

int Detector::Deviation(const PixelReader& image) const {
  if (rule_.native) {
    if (cutter_.featureless()) return BDD_FEATURELESS;
    const int found = rule_.has_training ? UnusualCrops() : BDD_USUAL;
    return found == BDD_USUAL && cutter_.padded() ? BDD_PADDED : found;
  }
  if (!rule_.has_training) return BDD_USUAL;
  const int side = std::min(image.width(), image.height());
  if (side > rule_.sides.high * kSizeFactor) return BDD_LARGER;
  if (side < rule_.sides.low / kSizeFactor) return BDD_SMALLER;
  return UnusualCrops();
}

// Judges the medians over all crops, which a few unusual crops do not move.
int Detector::UnusualCrops() const {
  double contrast[ViewRule::kMaxCount] = {}, detail[ViewRule::kMaxCount] = {};
  for (int i = 0; i < count_; ++i) {
    const Look look = LookOf(pixels(i), rule_.size());
    contrast[i] = look.contrast;
    detail[i] = look.detail;
  }
  if (!rule_.contrast.Has(Median(contrast, count_))) return BDD_UNUSUAL_CONTRAST;
  return rule_.detail.Has(Median(detail, count_)) ? BDD_USUAL : BDD_UNUSUAL_DETAIL;
}

}  // namespace bdd
