// Opens mutated .tflite files with the C interface (include/bdd.h), and runs those that open. Detectors score an image
// of the network's size, and images of any size and format by the rule in the file's metadata.
//
//   file_host CASES SEED FILE...     mutates the files in turns; the number of each case goes to file descriptor 9
//   first
//
// A file is a heap block of its exact size, so that the sanitizers detect accesses past its end.
#include <sys/resource.h>

#include <map>
#include <string>

#include "include/bdd.h"
#include "mutate.h"

namespace {

// Scores an image of a random description, of which each plane is a heap block of the exact size.
bool ScoreImage(bdd_model* model, Random* random, char* why, size_t why_size) {
  const int format = static_cast<int>(random->Below(8));
  const size_t width = random->Below(40) + 1, height = random->Below(40) + 1, half = (width + 1) / 2;
  const size_t step = random->Below(2) + 1, gap = random->Below(3);
  const bool planar = format == BDD_YUV420, yuv = format >= BDD_NV12;
  const size_t channels = yuv || format == BDD_GREY ? 1 : format == BDD_RGBA || format == BDD_BGRA ? 4 : 3;
  bdd_image image = {format, static_cast<int>(width), static_cast<int>(height), {}, {}, static_cast<int>(step)};
  Bytes planes[3];
  for (int i = 0; i < (planar ? 3 : yuv ? 2 : 1); ++i) {
    const size_t row = i == 0 ? width * channels : planar ? (half - 1) * step + 1 : 2 * half;
    const size_t rows = i == 0 ? height : (height + 1) / 2;
    planes[i].resize((rows - 1) * (row + gap) + row);
    for (uint8_t& byte : planes[i]) byte = static_cast<uint8_t>(random->Below(256));
    image.planes[i] = planes[i].data();
    image.strides[i] = row + gap;
  }
  bdd_verdict verdict;
  if (bdd_score_image(model, &image, &verdict, why, why_size) != BDD_OK) return false;
  bdd_box box = {};
  for (int i = 0; i < verdict.crops; ++i) {
    float score = 0.0f;
    const bool inside = bdd_crop(model, i, &box, &score) == BDD_OK && box.left >= 0 && box.top >= 0 && box.width > 0 &&
                        box.height > 0 && box.left + box.width <= image.width && box.top + box.height <= image.height;
    if (!inside || bdd_crop_pixels(model, i) == nullptr) std::abort();
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const Task task("file_host", argc, argv);
  const std::vector<Bytes>& files = task.files;
  std::map<std::string, long long> reasons;
  long long opened = 0, ran = 0, any_size = 0;
  for (long long i = 0; i < task.cases; ++i) {
    const uint64_t number = task.seed + static_cast<uint64_t>(i);
    TellCase(number);
    Random random(number);
    Bytes content = files[random.Below(files.size())];
    // The first files are opened as they are.
    for (size_t k = number < files.size() ? 0 : random.Below(6) + 1; k > 0; --k) Mutate(&content, &random);
    char why[256] = "";
    bdd_model* model = nullptr;
    // Some files with threads that share out a batch.
    const int batch = number % 8 == 7 ? 3 : 1;
    const bdd_options options = {batch > 1 ? 2 : 1, batch, nullptr};
    if (bdd_open_memory(content.data(), content.size(), &options, &model, why, sizeof why) == BDD_OK) {
      ++opened;
      size_t size = 0, input_bytes = 0, output_count = 0;
      const char* metadata = bdd_metadata(model, &size);
      unsigned sum = 0;
      for (size_t k = 0; metadata != nullptr && k < size; ++k) sum += static_cast<unsigned char>(metadata[k]);
      bdd_sizes(model, &input_bytes, &output_count);
      const Bytes input(input_bytes, static_cast<uint8_t>(sum));
      std::vector<float> output(output_count);
      if (bdd_run(model, input.data(), input_bytes, output.data(), output_count, why, sizeof why) == BDD_OK) ++ran;
      // Only of a detector.
      int height = 0, width = 0;
      const bool detector = bdd_input_size(model, nullptr, &height, &width) == BDD_OK;
      const size_t pixels = static_cast<size_t>(height) * static_cast<size_t>(width);
      if (detector && pixels * 3 * static_cast<size_t>(batch) != input_bytes) {
        std::printf("case %llu has an input of another size\n", static_cast<unsigned long long>(number));
        return 1;
      }
      if (detector && bdd_score(model, input.data(), output.data(), why, sizeof why) == BDD_OK) ++ran;
      for (int again = 0; again < 2; ++again) {
        if (ScoreImage(model, &random, why, sizeof why)) ++any_size;
      }
      bdd_close(model);
    }
    if (ran == 0 && why[0] == '\0') {
      std::printf("case %llu was refused without a reason\n", static_cast<unsigned long long>(number));
      return 1;
    }
    std::string reason;  // without its numbers
    for (const char* letter = why; *letter != '\0'; ++letter) {
      if (*letter < '0' || *letter > '9') reason += *letter;
    }
    ++reasons[reason];
  }
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("%lld mutated files: %lld opened, %lld runs, %lld images of any size; %zu different reasons; %ld MiB\n",
              task.cases, opened, ran, any_size, reasons.size(), usage.ru_maxrss / 1024);
  return 0;
}
