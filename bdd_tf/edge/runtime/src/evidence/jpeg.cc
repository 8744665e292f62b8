// JPEG (ITU-T T.81): segments, quantization tables, and bytes after the end of the image.
#include "evidence/containers.h"
#include "evidence/jpeg_tables.h"
#include "evidence/statements.h"
#include "support/memory.h"

namespace bdd {
namespace {

constexpr int64_t kMaxParts = 1 << 21;  // bytes of a block in several segments
constexpr size_t kGuid = 32;

// A block that several segments carry.
class Parts {
 public:
  void Clear() { size_ = 0; }
  void Append(ByteView part) { Put(size_, part); }
  // Puts a part at its place; what lies beyond the limit is left out.
  void Put(size_t at, ByteView part) {
    if (part.size == 0 || at >= static_cast<size_t>(kMaxParts)) return;
    if (buffer_.size() == 0 && !buffer_.Reset(kMaxParts)) return;
    part = part.First(static_cast<size_t>(kMaxParts) - at);
    std::memcpy(buffer_.data() + at, part.data, part.size);
    if (at + part.size > size_) size_ = at + part.size;
  }
  ByteView view() const { return {buffer_.data(), size_}; }

 private:
  Buffer<uint8_t> buffer_;
  size_t size_ = 0;
};

class Jpeg {
 public:
  Jpeg(ByteView file, Findings* findings) : file_(file), findings_(findings) {}

  void Walk() {
    size_t at = 2;
    while (file_.Has(at, 2) && !findings_->full()) {
      if (file_[at] != 0xff) {
        at = file_.Find(0xff, at);  // bytes between segments, which decoders skip as well
        continue;
      }
      const uint8_t marker = file_[at + 1];
      if (marker == 0xff) {
        ++at;
      } else if (marker == 0xd9) {
        Finish();
        return AddTrailing(file_.From(at + 2), "JPEG", findings_);
      } else if (marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
        at += 2;
      } else {
        const size_t bytes = file_.U16(at + 2);
        const ByteView segment = file_.Part(at + 4, bytes < 2 ? 0 : bytes - 2);
        if (bytes < 2 || segment.size != bytes - 2) break;  // cut off
        ReadSegment(marker, segment);
        at += 2 + bytes;
        if (marker == 0xda) at = AfterScan(at);
      }
    }
    Finish();
  }

 private:
  // The next marker behind compressed data, which is neither a stuffed zero nor a restart.
  size_t AfterScan(size_t at) const {
    for (at = file_.Find(0xff, at); at + 1 < file_.size; at = file_.Find(0xff, at + 1)) {
      const uint8_t marker = file_[at + 1];
      if (marker != 0 && marker != 0xff && !(marker >= 0xd0 && marker <= 0xd7)) return at;
    }
    return file_.size;
  }

  void ReadSegment(uint8_t marker, ByteView segment) {
    if (marker == 0xdb) {
      tables_.Add(segment);
    } else if (marker == 0xfe) {
      AddText("comment", segment, "JPEG comment", findings_);
    } else if (marker == 0xe1) {
      ReadApp1(segment);
    } else if (marker == 0xeb) {
      ReadApp11(segment);
    } else if (marker == 0xed && segment.Is(0, "Photoshop 3.0\x00")) {
      ReadPhotoshop(segment.From(14), "JPEG APP13", findings_);
    } else if (marker == 0xec && segment.Is(0, "Ducky")) {
      findings_->Add("editor", Strength::kUnverified, "a segment as Adobe Photoshop's export for the web writes it",
                     "JPEG APP12");
    }
  }

  void ReadApp1(ByteView segment) {
    static constexpr char kXmp[] = "http://ns.adobe.com/xap/1.0/\x00",
                          kMore[] = "http://ns.adobe.com/xmp/extension/\x00";
    if (segment.Is(0, "Exif\x00")) {
      ReadExif(segment.From(6), "JPEG EXIF", findings_);
    } else if (segment.Is(0, kXmp)) {
      ReadXmp(segment.From(sizeof kXmp - 1), "JPEG XMP", findings_);
    } else if (segment.Is(0, kMore)) {
      // The digest of the whole, its size, and the place of this part.
      const ByteView rest = segment.From(sizeof kMore - 1);
      if (!rest.Has(0, kGuid + 8)) return;
      if (guid_.size == 0) guid_ = rest.First(kGuid);
      if (std::memcmp(guid_.data, rest.data, kGuid) == 0) xmp_.Put(rest.U32(kGuid + 4), rest.From(kGuid + 8));
    }
  }

  // JUMBF in JPEG (ISO/IEC 19566-5, annex D): each segment repeats the header of the box that it carries a part of.
  void ReadApp11(ByteView segment) {
    if (!segment.Is(0, "JP") || !segment.Has(0, 16)) return;
    const uint32_t instance = segment.U16(2), number = segment.U32(4);
    const size_t header = segment.U32(8) == 1 ? 16 : 8;
    if (number == 1 || instance != instance_) {
      FinishBoxes();
      instance_ = instance;
      boxes_.Append(segment.From(8));
    } else {
      boxes_.Append(segment.From(8 + header));
    }
  }

  void FinishBoxes() {
    ReadC2pa(boxes_.view(), "JPEG APP11", findings_);
    boxes_.Clear();
  }

  void Finish() {
    FinishBoxes();
    if (guid_.size > 0) ReadXmp(xmp_.view(), "JPEG extended XMP", findings_);
    tables_.Report(findings_);
  }

  const ByteView file_;
  Findings* const findings_;
  JpegTables tables_;
  Parts boxes_, xmp_;
  uint32_t instance_ = 0;
  ByteView guid_;
};

}  // namespace

void WalkJpeg(ByteView file, Findings* findings) { Jpeg(file, findings).Walk(); }

}  // namespace bdd
