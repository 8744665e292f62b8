// Which container a file is, and the function of the C interface.
#include <new>

#include "evidence/containers.h"
#include "include/bdd.h"

namespace bdd {

void WalkImage(ByteView file, Findings* findings) {
  if (file.Is(0, "\xff\xd8\xff")) {
    WalkJpeg(file, findings);
  } else if (file.Is(0, "\x89PNG\r\n\x1a\n")) {
    WalkPng(file, findings);
  } else if (file.Is(0, "GIF87a") || file.Is(0, "GIF89a")) {
    WalkGif(file, findings);
  } else if (file.Is(0, "RIFF") && file.Is(8, "WEBP")) {
    WalkWebp(file, findings);
  } else if (file.Is(4, "ftyp") || file.Is(4, "JXL \r\n\x87\n")) {
    WalkIsoMedia(file, findings);
  } else if (file.Is(0, "II\x2a\x00") || file.Is(0, "MM\x00\x2a")) {
    ReadExif(file, "TIFF", findings);
  }
}

}  // namespace bdd

int bdd_evidence(const void* file, size_t size, char* json, size_t capacity, size_t* needed) {
  if (needed != nullptr) *needed = 0;
  if ((file == nullptr && size > 0) || (json == nullptr && capacity > 0)) return BDD_BAD_ARGUMENT;
  const bdd::ByteView view = {static_cast<const uint8_t*>(file), size};
  bdd::Findings findings(view);
  bdd::WalkImage(view, &findings);
  const std::string text = findings.Json();
  if (needed != nullptr) *needed = text.size() + 1;
  if (capacity < text.size() + 1) return BDD_BAD_ARGUMENT;
  std::memcpy(json, text.c_str(), text.size() + 1);
  return BDD_OK;
}
