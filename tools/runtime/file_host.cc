// Opens mutated .tflite files with the C interface (include/bdd.h), and runs those that open; detectors score an image.
//
//   file_host CASES SEED FILE...     mutates the files in turns; the number of each case goes to file descriptor 9
//   first
//
// A file is a heap block of its exact size, so that the sanitizers detect accesses past its end.
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "include/bdd.h"

namespace {

using Bytes = std::vector<uint8_t>;

Bytes ReadFile(const char* path) {
  Bytes bytes;
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) {
    std::fprintf(stderr, "cannot open %s\n", path);
    std::exit(2);
  }
  uint8_t part[1 << 16];
  for (size_t n = 0; (n = std::fread(part, 1, sizeof part, file)) > 0;) bytes.insert(bytes.end(), part, part + n);
  std::fclose(file);
  return bytes;
}

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  size_t Below(size_t bound) { return static_cast<size_t>(engine_() % bound); }

 private:
  std::mt19937_64 engine_;
};

void Mutate(Bytes* bytes, Random* random) {
  static constexpr int32_t kSpecial[] = {0, 1, -1, 2, 3, 4, 8, 127, 255, 65535, 1 << 24, INT32_MAX, INT32_MIN};
  if (bytes->size() < 16) return;
  const size_t at = random->Below(bytes->size()), word = random->Below(bytes->size() / 4 - 1) * 4;
  switch (random->Below(6)) {
    case 0:
    case 1: (*bytes)[at] = static_cast<uint8_t>(random->Below(256)); break;
    case 2: (*bytes)[at] = static_cast<uint8_t>((*bytes)[at] + random->Below(9) - 4); break;
    case 3: {
      const int32_t value = kSpecial[random->Below(sizeof kSpecial / sizeof *kSpecial)];
      std::memcpy(bytes->data() + word, &value, 4);
      break;
    }
    case 4: std::memmove(bytes->data() + word, bytes->data() + random->Below(bytes->size() / 4 - 1) * 4, 4); break;
    default:
      if (random->Below(8) == 0) bytes->resize(at);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "file_host CASES SEED FILE...\n");
    return 2;
  }
  const long long wanted = std::atoll(argv[1]);
  const uint64_t seed = std::strtoull(argv[2], nullptr, 10);
  std::vector<Bytes> files;
  for (int i = 3; i < argc; ++i) files.push_back(ReadFile(argv[i]));
  std::map<std::string, long long> reasons;
  long long opened = 0, ran = 0;
  for (long long i = 0; i < wanted; ++i) {
    const uint64_t number = seed + static_cast<uint64_t>(i);
    char line[32];
    const int length = std::snprintf(line, sizeof line, "%020llu\n", static_cast<unsigned long long>(number));
    if (pwrite(9, line, static_cast<size_t>(length), 0) < 0) {
      // Descriptor 9 is not open: the caller does not need the number.
    }
    Random random(number);
    Bytes content = files[random.Below(files.size())];
    // The first files are opened as they are.
    for (size_t k = number < files.size() ? 0 : random.Below(6) + 1; k > 0; --k) Mutate(&content, &random);
    char why[256] = "";
    bdd_model* model = nullptr;
    if (bdd_open_memory(content.data(), content.size(), nullptr, &model, why, sizeof why) == BDD_OK) {
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
      if (detector && pixels * 3 != input_bytes) {
        std::printf("case %llu has an input of another size\n", static_cast<unsigned long long>(number));
        return 1;
      }
      float score = 0;
      if (detector && bdd_score(model, input.data(), &score, why, sizeof why) == BDD_OK) ++ran;
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
  std::printf("%lld mutated files: %lld opened, %lld runs; %zu different reasons; %ld MiB at most\n", wanted, opened,
              ran, reasons.size(), usage.ru_maxrss / 1024);
  return 0;
}
