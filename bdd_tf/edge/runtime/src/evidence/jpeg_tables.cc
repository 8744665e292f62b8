#include "evidence/jpeg_tables.h"

namespace bdd {
namespace {

constexpr uint8_t kZigzag[64] = {0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
                                 41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
                                 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

// ITU-T T.81, tables K.1 and K.2, row by row.
constexpr uint8_t kStandard[2][64] = {
    {16, 11,  10,  16, 24, 40, 51, 61, 12,  12,  14,  19,  26, 58, 60, 55,  14,  13,  16,  24, 40, 57,
     69, 56,  14,  17, 22, 29, 51, 87, 80,  62,  18,  22,  37, 56, 68, 109, 103, 77,  24,  35, 55, 64,
     81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98,  112, 100, 103, 99},
    {17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99,
     99, 99, 47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
     99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99}};

// FNV-1a of the luma tables that Adobe Photoshop's dialogs write, as Pillow lists them (PIL/JpegPresets.py).
constexpr uint64_t kPhotoshop[] = {
    0xaa956934c57a8d83u,  // web_low
    0x3e1ff90aba5b5e42u,  // web_medium
    0xaa0217947172cf6fu,  // web_high
    0x79ddfc8195f65d73u,  // web_very_high
    0xc645c4fa31fbaa6au,  // web_maximum
    0x3f19f338543187d9u,  // low
    0x7bc27e1797bb506bu,  // medium
    0xba852ce0626c77e8u,  // high
    0x79ddfc8195f65d73u,  // maximum
};

uint64_t Digest(const uint8_t* table) {
  uint64_t digest = 0xcbf29ce484222325u;
  for (int i = 0; i < 64; ++i) digest = (digest ^ table[i]) * 0x100000001b3u;
  return digest;
}

}  // namespace

void JpegTables::Add(ByteView segment) {
  for (size_t at = 0; at < segment.size;) {
    const uint8_t id = segment[at] & 15;
    const bool wide = segment[at] >= 16;  // 16 bits for each number
    const size_t bytes = wide ? 128 : 64;
    if (!segment.Has(at + 1, bytes)) return;
    if (id < 2 && !wide && !has_[id]) {
      std::memcpy(tables_[id], segment.data + at + 1, bytes);
      has_[id] = true;
    }
    at += 1 + bytes;
  }
}

bool JpegTables::IsLibjpeg(int quality) const {
  const int scale = quality < 50 ? 5000 / quality : 200 - 2 * quality;
  for (int table = 0; table < (has_[1] ? 2 : 1); ++table) {
    for (int i = 0; i < 64; ++i) {
      const int number = (kStandard[table][kZigzag[i]] * scale + 50) / 100;
      if (tables_[table][i] != (number < 1 ? 1 : number > 255 ? 255 : number)) return false;
    }
  }
  return true;
}

void JpegTables::Report(Findings* findings) const {
  if (!has_[0]) return;
  for (int quality = 100; quality > 0; --quality) {
    if (!IsLibjpeg(quality)) continue;
    return findings->Add("jpeg_tables", Strength::kNeutral,
                         "compressed with the tables of libjpeg, quality " + std::to_string(quality) +
                             ", as most programs and many phones do",
                         "JPEG quantization tables");
  }
  for (const uint64_t digest : kPhotoshop) {
    if (Digest(tables_[0]) != digest) continue;
    return findings->Add("jpeg_tables", Strength::kHint, "compressed with tables of Adobe Photoshop",
                         "JPEG quantization tables");
  }
}

}  // namespace bdd
