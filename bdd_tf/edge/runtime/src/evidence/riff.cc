// WebP (RFC 9649): chunks of RIFF.
#include "evidence/containers.h"
#include "evidence/statements.h"

namespace bdd {

void WalkWebp(ByteView file, Findings* findings) {
  const size_t size = size_t{file.U32Little(4)};
  const size_t end = size < file.size && size >= 4 ? size + 8 : file.size;
  for (size_t at = 12; at + 8 <= end && !findings->full();) {
    const size_t bytes = file.U32Little(at + 4);
    const ByteView content = file.Part(at + 8, bytes);
    if (file.Is(at, "EXIF")) {
      // Some programs keep the name that JPEG puts in front.
      ReadExif(content.Is(0, "Exif\x00\x00") ? content.From(6) : content, "WebP EXIF", findings);
    } else if (file.Is(at, "XMP ")) {
      ReadXmp(content, "WebP XMP", findings);
    } else if (file.Is(at, "C2PA")) {
      ReadC2pa(content, "WebP C2PA", findings);
    }
    if (content.size != bytes) return;  // cut off
    at += 8 + bytes + (bytes & 1);
  }
  if (end < file.size) AddTrailing(file.From(end), "WebP", findings);
}

}  // namespace bdd
