// EXIF 3.0, which is TIFF 6.0: directories of entries with 12 bytes each. At most three directories are read, each
// once, so that no chain of offsets can be a loop.
#include "evidence/containers.h"
#include "evidence/statements.h"

namespace bdd {
namespace {

constexpr uint32_t kMaxEntries = 512;
// Longer texts are cut: only their beginning is shown.
constexpr size_t kMaxText = 1 << 16;

enum Tag : uint32_t {
  kImageDescription = 0x010e,
  kMake = 0x010f,
  kModel = 0x0110,
  kSoftware = 0x0131,
  kThumbnailOffset = 0x0201,
  kThumbnailBytes = 0x0202,
  kXmp = 0x02bc,
  kIptc = 0x83bb,
  kPhotoshop = 0x8649,
  kExifDirectory = 0x8769,
  kMakerNote = 0x927c,
  kUserComment = 0x9286,
  kXpComment = 0x9c9c,
  kC2pa = 0xcd41,
};

// UTF-16 as UTF-8.
std::string FromUtf16(ByteView text, bool little) {
  std::string out;
  text = text.First(kMaxText);
  for (size_t at = 0; at + 1 < text.size; at += 2) {
    uint32_t code = little ? text.U16Little(at) : text.U16(at);
    if (code == 0) break;
    if (code >= 0xd800 && code < 0xdc00 && at + 3 < text.size) {
      const uint32_t low = little ? text.U16Little(at + 2) : text.U16(at + 2);
      if (low >= 0xdc00 && low < 0xe000) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        at += 2;
      }
    }
    if (code >= 0xd800 && code < 0xe000) code = '?';
    const auto more = [&](int shift) { out += static_cast<char>(0x80 | ((code >> shift) & 0x3f)); };
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xc0 | (code >> 6));
      more(0);
    } else if (code < 0x10000) {
      out += static_cast<char>(0xe0 | (code >> 12));
      more(6);
      more(0);
    } else {
      out += static_cast<char>(0xf0 | (code >> 18));
      more(12);
      more(6);
      more(0);
    }
  }
  return out;
}

class Exif {
 public:
  Exif(ByteView tiff, const std::string& where, Findings* findings)
      : tiff_(tiff), where_(where), findings_(findings), little_(tiff.Is(0, "II")) {}

  void Read() {
    if (!tiff_.Is(0, "II\x2a\x00") && !tiff_.Is(0, "MM\x00\x2a")) {
      return findings_->AddDamage("the EXIF block has no TIFF header", where_);
    }
    const uint32_t second = ReadDirectory(U32(4), false);
    if (exif_directory_ != 0) ReadDirectory(exif_directory_, false);
    if (second != 0) ReadDirectory(second, true);
    const std::string camera = CleanText(ViewOf(make_ + " " + model_), 120);
    if (!camera.empty()) {
      findings_->Add("camera", Strength::kUnverified, "names a camera: " + Quoted(camera), where_ + " Make, Model");
    }
    const ByteView thumbnail = tiff_.Part(thumbnail_at_, thumbnail_bytes_);
    if (thumbnail.Is(0, "\xff\xd8")) findings_->AddThumbnail(thumbnail, where_);
  }

 private:
  uint32_t U16(size_t at) const { return little_ ? tiff_.U16Little(at) : tiff_.U16(at); }
  uint32_t U32(size_t at) const { return little_ ? tiff_.U32Little(at) : tiff_.U32(at); }

  // Reads one directory; returns the offset of the next one, 0 if there is none.
  uint32_t ReadDirectory(size_t at, bool second) {
    const uint32_t count = U16(at);
    if (!tiff_.Has(at, 2) || !tiff_.Has(at + 2, size_t{count} * 12)) {
      findings_->AddDamage("a directory lies outside of its block", where_);
      return 0;
    }
    for (uint32_t i = 0; i < count && i < kMaxEntries; ++i) {
      const size_t entry = at + 2 + size_t{i} * 12;
      if (second) {
        ReadThumbnailEntry(entry);
      } else {
        ReadEntry(entry);
      }
    }
    return U32(at + 2 + size_t{count} * 12);
  }

  // The bytes of an entry; empty if they lie outside.
  ByteView Value(size_t entry) const {
    static constexpr uint8_t kSizes[] = {0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4};
    const uint32_t type = U16(entry + 2);
    if (type >= sizeof kSizes) return type == 129 ? Placed(entry, U32(entry + 4)) : ByteView{};  // EXIF 3: UTF-8
    return Placed(entry, uint64_t{U32(entry + 4)} * kSizes[type]);
  }

  ByteView Placed(size_t entry, uint64_t bytes) const {
    if (bytes > tiff_.size) return {};
    return tiff_.Part(bytes <= 4 ? entry + 8 : U32(entry + 8), static_cast<size_t>(bytes));
  }

  // A text up to its terminating zero.
  static ByteView Text(ByteView value) { return value.First(value.Find(0, 0)).First(kMaxText); }

  uint32_t Number(size_t entry) const { return U16(entry + 2) == 3 ? U16(entry + 8) : U32(entry + 8); }

  void ReadThumbnailEntry(size_t entry) {
    if (U16(entry) == kThumbnailOffset) thumbnail_at_ = Number(entry);
    if (U16(entry) == kThumbnailBytes) thumbnail_bytes_ = Number(entry);
  }

  void ReadEntry(size_t entry) {
    const uint32_t tag = U16(entry);
    if (tag == kExifDirectory) exif_directory_ = U32(entry + 8);
    const ByteView value = Value(entry);
    if (value.size == 0) return;
    const ByteView text = Text(value);
    switch (tag) {
      case kMake: make_ = CleanText(text, 60); break;
      case kModel: model_ = CleanText(text, 60); break;
      case kSoftware: AddSoftware(text, where_ + " Software", findings_); break;
      case kImageDescription: AddText("description", text, where_ + " ImageDescription", findings_); break;
      case kXpComment: AddText("comment", ViewOf(FromUtf16(value, true)), where_ + " XPComment", findings_); break;
      case kUserComment: ReadComment(value); break;
      case kMakerNote:
        findings_->Add("maker_note", Strength::kUnverified,
                       "maker notes of " + Grouped(value.size) + " bytes, as cameras write them",
                       where_ + " MakerNote");
        break;
      case kC2pa: ReadC2pa(value, where_ + " C2PA", findings_); break;
      case kXmp: ReadXmp(value, where_ + " XMP", findings_); break;
      case kIptc: ReadIptc(value, where_ + " IPTC", findings_); break;
      case kPhotoshop: ReadPhotoshop(value, where_ + " Photoshop", findings_); break;
      default: break;
    }
  }

  // Eight bytes name the character set.
  void ReadComment(ByteView value) {
    const std::string where = where_ + " UserComment";
    const ByteView rest = value.From(8);
    if (value.Is(0, "UNICODE\x00")) {
      // The byte order is the block's by the standard; some programs write the other one, which shows in ASCII letters.
      const bool little = rest[1] == 0 && rest[0] != 0 ? true : rest[0] == 0 && rest[1] != 0 ? false : little_;
      return AddText("comment", ViewOf(FromUtf16(rest, little)), where, findings_);
    }
    AddText("comment", Text(rest), where, findings_);
  }

  const ByteView tiff_;
  const std::string where_;
  Findings* const findings_;
  const bool little_;
  std::string make_, model_;
  size_t exif_directory_ = 0, thumbnail_at_ = 0, thumbnail_bytes_ = 0;
};

}  // namespace

void ReadExif(ByteView tiff, const std::string& where, Findings* findings) {
  // Three directories at most, of which the entries are read.
  if (findings->Charge(tiff.First(3 * kMaxEntries * 12)).size == 0) return;
  Exif(tiff, where, findings).Read();
}

}  // namespace bdd
