// GIF89a: comments, XMP, C2PA, and bytes after the trailer.
#include "evidence/containers.h"
#include "evidence/statements.h"

namespace bdd {
namespace {

constexpr size_t kMaxComment = 4096, kMaxStore = 1 << 21;
// XMP is followed by 257 bytes that lead readers of sub-blocks to its end.
constexpr size_t kXmpTrailer = 257;

// Bytes of a color table that a byte of flags announces.
size_t ColorTable(uint8_t flags) { return flags & 0x80 ? size_t{3} << ((flags & 7) + 1) : 0; }

// Reads sub-blocks from a place, and appends them to a text until it has `limit` bytes; returns the place behind them.
size_t SubBlocks(ByteView file, size_t at, size_t limit = 0, std::string* text = nullptr) {
  while (at < file.size && file[at] != 0) {
    const ByteView block = file.From(at + 1).First(file[at]);
    if (text != nullptr && text->size() < limit) {
      text->append(reinterpret_cast<const char*>(block.data), block.size);
    }
    at += size_t{1} + file[at];
  }
  return at + 1;
}

}  // namespace

void WalkGif(ByteView file, Findings* findings) {
  size_t at = 13 + ColorTable(file[10]);
  while (at < file.size && !findings->full()) {
    if (file[at] == 0x3b) return AddTrailing(file.From(at + 1), "GIF", findings);
    if (file[at] == 0x2c) {  // an image: descriptor, color table, code size, data
      at = SubBlocks(file, at + 10 + ColorTable(file[at + 9]) + 1);
    } else if (file[at] == 0x21 && file[at + 1] == 0xfe) {
      std::string text;
      at = SubBlocks(file, at + 2, kMaxComment, &text);
      AddText("comment", ViewOf(text), "GIF comment", findings);
    } else if (file[at] == 0x21 && file[at + 1] == 0xff && file.Is(at + 2, "\x0bXMP DataXMP")) {
      const size_t begin = at + 14, end = SubBlocks(file, begin);
      if (end > begin + kXmpTrailer) ReadXmp(file.Part(begin, end - begin - kXmpTrailer), "GIF XMP", findings);
      at = end;
    } else if (file[at] == 0x21 && file[at + 1] == 0xff &&
               file.Is(at + 2,
                       "\x0b"
                       "C2PA_GIF")) {
      std::string store;
      at = SubBlocks(file, at + 14, kMaxStore, &store);
      ReadC2pa(ViewOf(store), "GIF C2PA", findings);
    } else if (file[at] == 0x21) {
      at = SubBlocks(file, at + 2);
    } else {
      return;
    }
  }
}

}  // namespace bdd
