// Photoshop's image resources (blocks 8BIM) and IPTC IIM 4.2, whose data sets stand in resource 0x0404.
#include "evidence/containers.h"
#include "evidence/statements.h"

namespace bdd {
namespace {

enum Resource : uint32_t {
  kIim = 0x0404,
  kQuality = 0x0406,
  kThumbnail = 0x040c,
  kVersion = 0x0421,
  kXmpResource = 0x0424
};
// Photoshop's own header in front of a thumbnail's JPEG file.
constexpr size_t kThumbnailHeader = 28;

}  // namespace

void ReadIptc(ByteView records, const std::string& where, Findings* findings) {
  records = findings->Charge(records);
  for (size_t at = 0; records[at] == 0x1c && records.Has(at, 5);) {
    const uint8_t record = records[at + 1], number = records[at + 2];
    const uint32_t size = records.U16(at + 3);
    if (size & 0x8000) return;  // an extended data set, for objects larger than any text
    const ByteView value = records.Part(at + 5, size);
    if (value.size != size) return findings->AddDamage("a data set is longer than its block", where);
    at += 5 + size;
    if (record != 2 || size == 0) continue;
    const std::string place = where + " 2:" + std::to_string(number);
    // IIM has no data set of its own for the kind of source: programs put its URI into one of text.
    if (IsSourceType(value)) {
      AddSourceType(value, place, findings);
    } else if (number == 65) {  // originating program
      AddSoftware(value, place, findings);
    } else if (number == 110) {  // credit
      AddKnownSoftware(value, place, findings);
    } else if (number == 120) {  // caption
      AddText("description", value, place, findings);
    }
  }
}

void ReadPhotoshop(ByteView resources, const std::string& where, Findings* findings) {
  resources = findings->Charge(resources);
  for (size_t at = 0; resources.Is(at, "8BIM") && !findings->full();) {
    const uint32_t id = resources.U16(at + 4);
    const size_t name = (size_t{resources[at + 6]} + 2) & ~size_t{1};  // a length, text, and padding to an even size
    const size_t begin = at + 6 + name + 4;
    const uint32_t size = resources.U32(at + 6 + name);
    const ByteView value = resources.Part(begin, size);
    // A large resource may go on in the next segment of a JPEG file.
    if (value.size != size) return;
    if (id == kIim) {
      ReadIptc(value, where + " IPTC", findings);
    } else if (id == kXmpResource) {
      ReadXmp(value, where + " XMP", findings);
    } else if (id == kThumbnail) {
      if (value.From(kThumbnailHeader).Is(0, "\xff\xd8")) {
        findings->AddThumbnail(value.From(kThumbnailHeader), where + " thumbnail");
      }
    } else if (id == kVersion || id == kQuality) {
      findings->Add("editor", Strength::kUnverified, "resources as Adobe Photoshop saves them", where);
    }
    at = begin + size + (size & 1);
  }
}

}  // namespace bdd
