// C++17 over bdd.h: a detector that frees itself, with exceptions. Needs nothing but this header and the library.
//
//   bdd::Detector detector("photos-bnext-n.tflite");
//   bdd::Verdict verdict = detector.Score(bdd::Rgb(pixels, width, height));
//   std::printf("%s %.3f\n", verdict.fake ? "FAKE" : "REAL", verdict.probability);
#ifndef BDD_HPP_
#define BDD_HPP_

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "bdd.h"

namespace bdd {

class Error : public std::runtime_error {
 public:
  Error(int status, const char* message) : std::runtime_error(message), status_(status) {}
  int status() const { return status_; }  // enum bdd_status

 private:
  int status_;
};

// A part of an image that was scored.
struct Crop {
  bdd_box box;
  float probability;
};

struct Verdict {
  double probability;       // that the image is FAKE, in [0, 1]
  double threshold;         // of the file
  bool fake;                // the probability is at least the threshold
  int deviation;            // enum bdd_deviation: why the score is to be distrusted
  std::vector<Crop> crops;  // at least one
};

// Describes an RGB image of 8 bits; `stride` is in bytes, 0: rows without gaps. The pixels stay the caller's.
inline bdd_image Rgb(const uint8_t* pixels, int width, int height, size_t stride = 0) {
  bdd_image image = {};
  image.format = BDD_RGB;
  image.width = width;
  image.height = height;
  image.planes[0] = pixels;
  image.strides[0] = stride;
  return image;
}

// What the metadata of an image file says, as JSON (bdd_evidence). Throws Error only for a null pointer.
inline std::string Evidence(const void* file, size_t size) {
  std::string json(BDD_EVIDENCE_BYTES, '\0');
  size_t needed = 0;
  const int status = bdd_evidence(file, size, &json[0], json.size(), &needed);
  if (status != BDD_OK) throw Error(status, "file must not be NULL");
  json.resize(needed - 1);
  return json;
}

// For one thread at a time; several detectors may run side by side.
class Detector {
 public:
  // Throws Error if the file cannot be read, or is none of a detector that this library runs. `threads`: 1 to 64.
  explicit Detector(const std::string& path, int threads = 1) {
    Open([&](auto... rest) { return bdd_open_file(path.c_str(), rest...); }, threads);
  }
  // From memory, which is copied.
  static Detector FromMemory(const void* data, size_t size, int threads = 1) {
    Detector made;
    made.Open([&](auto... rest) { return bdd_open_memory(data, size, rest...); }, threads);
    return made;
  }

  // Scores an image of any size. Throws Error for an impossible description.
  Verdict Score(const bdd_image& image) {
    char why[kMessageSize] = "";
    bdd_verdict found = {};
    Check(bdd_score_image(model_.get(), &image, &found, why, sizeof why), why);
    Verdict verdict = {found.probability, found.threshold, found.fake != 0, found.deviation, {}};
    verdict.crops.resize(static_cast<size_t>(found.crops));
    for (int i = 0; i < found.crops; ++i) {
      Crop& crop = verdict.crops[static_cast<size_t>(i)];
      Check(bdd_crop(model_.get(), i, &crop.box, &crop.probability), "the image has no such crop");
    }
    return verdict;
  }

  // JSON of the file; empty if it has none.
  std::string metadata() const {
    size_t size = 0;
    const char* text = bdd_metadata(model_.get(), &size);
    return text == nullptr ? std::string() : std::string(text, size);
  }

  bdd_model* get() { return model_.get(); }  // for the functions of bdd.h

 private:
  static constexpr size_t kMessageSize = 256;
  struct Close {
    void operator()(bdd_model* model) const { bdd_close(model); }
  };

  Detector() = default;

  static void Check(int status, const char* message) {
    if (status != BDD_OK) throw Error(status, message);
  }

  template <typename Function>
  void Open(Function open, int threads) {
    char why[kMessageSize] = "";
    bdd_options options = {};
    options.threads = threads;
    bdd_model* model = nullptr;
    Check(open(&options, &model, why, sizeof why), why);
    model_.reset(model);
  }

  std::unique_ptr<bdd_model, Close> model_;
};

}  // namespace bdd

#endif
