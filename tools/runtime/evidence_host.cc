// Walks mutated image files for evidence with the C interface (bdd_evidence in include/bdd.h).
//
//   evidence_host CASES SEED FILE...     mutates the files in turns; the number of each case goes to file descriptor 9
//   first
//
// A file is a heap block of its exact size, and so is the text, so that the sanitizers detect accesses past their ends.
#include <algorithm>

#include "include/bdd.h"
#include "mutate.h"

namespace {

// Whether a text is one JSON array of whole strings in UTF-8 without control characters.
bool IsClean(const std::vector<char>& json) {
  if (json.size() < 3 || json.front() != '[' || json[json.size() - 2] != ']' || json.back() != '\0') return false;
  bool inside = false;
  for (size_t i = 0; i + 1 < json.size(); ++i) {
    const uint8_t letter = static_cast<uint8_t>(json[i]);
    if (letter < 0x20 || letter == 0x7f) return false;
    if (inside && letter == '\\') {
      ++i;
    } else if (letter == '"') {
      inside = !inside;
    }
  }
  return !inside;
}

}  // namespace

int main(int argc, char** argv) {
  const Task task("evidence_host", argc, argv);
  const std::vector<Bytes>& files = task.files;
  long long found = 0;
  size_t longest = 0;
  for (long long i = 0; i < task.cases; ++i) {
    const uint64_t number = task.seed + static_cast<uint64_t>(i);
    TellCase(number);
    Random random(number);
    Bytes content = files[number < files.size() ? number : random.Below(files.size())];
    // The first files are walked as they are. Metadata stands at the beginning: half of the changes are made there.
    for (size_t k = number < files.size() ? 0 : random.Below(6) + 1; k > 0; --k) {
      Bytes head(content.begin(), content.begin() + static_cast<long>(std::min<size_t>(content.size(), 512)));
      if (random.Below(2) == 0) {
        Mutate(&content, &random);
      } else {
        Mutate(&head, &random);
        std::copy(head.begin(), head.end(), content.begin());
      }
    }
    const Bytes exact(content);
    size_t needed = 0;
    if (bdd_evidence(exact.data(), exact.size(), nullptr, 0, &needed) != BDD_BAD_ARGUMENT) std::abort();
    if (needed < 3 || needed > BDD_EVIDENCE_BYTES) std::abort();
    std::vector<char> json(needed);
    if (bdd_evidence(exact.data(), exact.size(), json.data(), json.size(), &needed) != BDD_OK) std::abort();
    if (needed != json.size() || !IsClean(json)) {
      std::printf("case %llu gives no clean text\n", static_cast<unsigned long long>(number));
      return 1;
    }
    if (needed > 3) ++found;
    longest = std::max(longest, needed);
  }
  std::printf("%lld mutated image files: %lld with evidence, texts of at most %zu bytes\n", task.cases, found, longest);
  return 0;
}
