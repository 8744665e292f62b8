// Reading and mutating files, for the programs that test the library on damaged ones.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

using Bytes = std::vector<uint8_t>;

inline Bytes ReadFile(const char* path) {
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

// What a program is to do: "NAME CASES SEED FILE...".
struct Task {
  Task(const char* name, int argc, char** argv) {
    if (argc < 4) {
      std::fprintf(stderr, "%s CASES SEED FILE...\n", name);
      std::exit(2);
    }
    cases = std::atoll(argv[1]);
    seed = std::strtoull(argv[2], nullptr, 10);
    for (int i = 3; i < argc; ++i) files.push_back(ReadFile(argv[i]));
  }

  long long cases = 0;
  uint64_t seed = 0;
  std::vector<Bytes> files;
};

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  size_t Below(size_t bound) { return static_cast<size_t>(engine_() % bound); }

 private:
  std::mt19937_64 engine_;
};

// Writes the number of a case to file descriptor 9, if the caller opened it.
inline void TellCase(uint64_t number) {
  char line[32];
  const int length = std::snprintf(line, sizeof line, "%020llu\n", static_cast<unsigned long long>(number));
  if (pwrite(9, line, static_cast<size_t>(length), 0) < 0) {
    // Descriptor 9 is not open: the caller does not need the number.
  }
}

inline void Mutate(Bytes* bytes, Random* random) {
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
