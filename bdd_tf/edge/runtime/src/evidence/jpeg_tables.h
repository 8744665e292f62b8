// Recognizes the quantization tables of JPEG files: those of libjpeg, by quality, and those of Adobe Photoshop.
#pragma once

#include "evidence/findings.h"

namespace bdd {

class JpegTables {
 public:
  // The content of a DQT segment.
  void Add(ByteView segment);
  // Reports the tables if they are known.
  void Report(Findings* findings) const;

 private:
  bool IsLibjpeg(int quality) const;

  // Luma and chroma, in zigzag order; later definitions are left out.
  uint8_t tables_[2][64] = {};
  bool has_[2] = {};
};

}  // namespace bdd
