// HEIC, AVIF (ISO/IEC 23008-12) and JPEG XL's container: boxes of ISO base media files.
#include <vector>

#include "evidence/containers.h"
#include "evidence/statements.h"

namespace bdd {
namespace {

constexpr size_t kMaxItems = 4096;
// Of metadata in several extents, which are copied into one piece.
constexpr size_t kMaxCopied = 1 << 21, kMaxExtents = 256;

struct Box {
  ByteView type, content;
  size_t bytes = 0;  // with the header; 0: there is no box
};

// The box at a place. A size of 0 stands for the rest of the file.
Box BoxAt(ByteView parent, size_t at) {
  Box box;
  if (!parent.Has(at, 8)) return box;
  uint64_t bytes = parent.U32(at);
  size_t header = 8;
  if (bytes == 1) {
    bytes = parent.U64(at + 8);
    header = 16;
  } else if (bytes == 0) {
    bytes = parent.size - at;
  }
  if (bytes < header || bytes > parent.size - at) return box;
  box.type = parent.Part(at + 4, 4);
  box.content = parent.Part(at + header, static_cast<size_t>(bytes) - header);
  box.bytes = static_cast<size_t>(bytes);
  return box;
}

// The first box of a type among the children; empty if there is none.
template <size_t N>
ByteView Child(ByteView parent, const char (&type)[N]) {
  for (size_t at = 0; at < parent.size;) {
    const Box box = BoxAt(parent, at);
    if (box.bytes == 0) break;
    if (box.type.Is(0, type)) return box.content;
    at += box.bytes;
  }
  return {};
}

// Reads numbers one after the other.
class Reader {
 public:
  explicit Reader(ByteView bytes) : bytes_(bytes) {}
  uint64_t Take(size_t count) {
    uint64_t value = 0;
    for (size_t i = 0; i < count; ++i) value = (value << 8) | bytes_[at_ + i];
    good_ = good_ && bytes_.Has(at_, count);
    at_ += count;
    return value;
  }
  ByteView rest() const { return bytes_.From(at_); }
  bool good() const { return good_; }

 private:
  ByteView bytes_;
  size_t at_ = 0;
  bool good_ = true;
};

struct Item {
  uint64_t id;
  bool exif;          // else XMP
  bool read = false;  // a place is read once, however often the file names it
};

// Items of `iinf` with EXIF or XMP.
std::vector<Item> MetadataItems(ByteView iinf) {
  std::vector<Item> items;
  const size_t header = iinf[0] == 0 ? 6 : 8;
  size_t seen = 0;
  for (size_t at = header; at < iinf.size && ++seen <= kMaxItems;) {
    const Box box = BoxAt(iinf, at);
    if (box.bytes == 0) break;
    at += box.bytes;
    const uint8_t version = box.content[0];
    if (!box.type.Is(0, "infe") || version < 2) continue;
    const size_t type = version == 2 ? 8 : 10;
    const uint64_t id = version == 2 ? box.content.U16(4) : box.content.U32(4);
    const ByteView name = box.content.From(type + 4);
    const size_t end = name.Find(0, 0);
    if (box.content.Is(type, "Exif")) {
      items.push_back({id, true});
    } else if (box.content.Is(type, "mime") && name.From(end + 1).Is(0, "application/rdf+xml\x00")) {
      items.push_back({id, false});
    }
    if (items.size() == 16) break;
  }
  return items;
}

// The extents of one item, joined.
class Extents {
 public:
  explicit Extents(ByteView source) : source_(source) {}
  void Add(uint64_t base, uint64_t offset, uint64_t length) {
    const bool inside = base <= source_.size && offset <= source_.size && length <= source_.size;
    const ByteView part =
        inside ? source_.Part(static_cast<size_t>(base + offset), static_cast<size_t>(length)) : ByteView{};
    // One that cannot be read makes the item unreadable.
    good_ =
        good_ && part.size > 0 && (parts_.empty() || bytes_ + part.size <= kMaxCopied) && parts_.size() < kMaxExtents;
    if (!good_) return;
    parts_.push_back(part);
    bytes_ += part.size;
  }
  // Valid as long as this object; empty if the item is unreadable.
  ByteView Join() {
    if (!good_ || parts_.empty()) return {};
    if (parts_.size() == 1) return parts_[0];
    for (const ByteView& part : parts_) copy_.append(reinterpret_cast<const char*>(part.data), part.size);
    return ViewOf(copy_);
  }

 private:
  const ByteView source_;
  std::vector<ByteView> parts_;
  std::string copy_;
  size_t bytes_ = 0;
  bool good_ = true;
};

class IsoMedia {
 public:
  IsoMedia(ByteView file, Findings* findings) : file_(file), findings_(findings) {}

  void Walk() {
    size_t at = 0, boxes = 0;
    while (at < file_.size && ++boxes <= kMaxItems && !findings_->full()) {
      const Box box = BoxAt(file_, at);
      if (box.bytes == 0 || !IsType(box.type)) break;
      ReadBox(box);
      at += box.bytes;
    }
    const ByteView rest = file_.From(at);
    // A box whose size is too large is cut off; what has no name of a box is something else.
    if (boxes > 1 && boxes <= kMaxItems && !IsType(rest.Part(4, 4))) AddTrailing(rest, Name(), findings_);
  }

 private:
  static bool IsType(ByteView type) {
    for (size_t i = 0; i < 4; ++i) {
      if (type[i] < 0x20 || type[i] > 0x7e) return false;
    }
    return type.size == 4;
  }

  const char* Name() const {
    return file_.Is(8, "avif") || file_.Is(8, "avis") ? "AVIF" : file_.Is(4, "JXL ") ? "JPEG XL" : "HEIF";
  }

  std::string Place(const char* part) const { return std::string(Name()) + " " + part; }

  void ReadBox(const Box& box) {
    static constexpr char kC2pa[] = "\xd8\xfe\xc3\xd6\x1b\x0e\x48\x3c\x92\x97\x58\x28\x87\x7e\xc4\x81";
    if (box.type.Is(0, "meta")) {
      ReadMeta(box.content.From(4));
    } else if (box.type.Is(0, "uuid") && box.content.Is(0, kC2pa)) {
      // Version and flags, a purpose, and the place of the Merkle boxes.
      const ByteView rest = box.content.From(20);
      if (rest.Is(0, "manifest\x00")) ReadC2pa(rest.From(9 + 8), Place("uuid box"), findings_);
    } else if (box.type.Is(0, "Exif")) {  // of JPEG XL
      ReadExifItem(box.content);
    } else if (box.type.Is(0, "xml ")) {
      ReadXmp(box.content, Place("XMP"), findings_);
    } else if (box.type.Is(0, "jumb")) {
      ReadC2pa({box.content.data - 8, box.content.size + 8}, Place("jumb box"), findings_);
    }
  }

  void ReadExifItem(ByteView item) {
    const size_t skip = item.U32(0);  // to the TIFF header
    if (skip < item.size) ReadExif(item.From(4 + skip), Place("EXIF"), findings_);
  }

  void ReadMeta(ByteView meta) {
    std::vector<Item> items = MetadataItems(Child(meta, "iinf"));
    if (items.empty()) return;
    const ByteView iloc = Child(meta, "iloc"), idat = Child(meta, "idat");
    Reader reader(iloc);
    const uint64_t version = reader.Take(1);
    reader.Take(3);
    const uint64_t sizes = reader.Take(2), count = reader.Take(version < 2 ? 2 : 4);
    const size_t offset_bytes = (sizes >> 12) & 15, length_bytes = (sizes >> 8) & 15, base_bytes = (sizes >> 4) & 15;
    const size_t index_bytes = version == 0 ? 0 : sizes & 15;
    if (offset_bytes > 8 || length_bytes > 8 || base_bytes > 8 || index_bytes > 8) return;
    for (uint64_t i = 0; i < count && i < kMaxItems && reader.good(); ++i) {
      const uint64_t id = reader.Take(version < 2 ? 2 : 4);
      const uint64_t method = version == 0 ? 0 : reader.Take(2) & 15;
      reader.Take(2);  // data reference
      Item* item = Wanted(id, &items);
      if (method > 1) item = nullptr;
      const uint64_t base = reader.Take(base_bytes), extents = reader.Take(2);
      Extents content(method == 1 ? idat : file_);
      for (uint64_t k = 0; k < extents && reader.good(); ++k) {
        reader.Take(index_bytes);
        const uint64_t offset = reader.Take(offset_bytes), length = reader.Take(length_bytes);
        if (item != nullptr && reader.good()) content.Add(base, offset, length);
      }
      if (item != nullptr && reader.good()) ReadItem(item, content.Join());
    }
  }

  // The item with an id, if its content is wanted.
  static Item* Wanted(uint64_t id, std::vector<Item>* items) {
    for (Item& item : *items) {
      if (item.id == id && !item.read) return &item;
    }
    return nullptr;
  }

  void ReadItem(Item* item, ByteView content) {
    if (content.size == 0) return;
    item->read = true;
    if (item->exif) {
      ReadExifItem(content);
    } else {
      ReadXmp(content, Place("XMP"), findings_);
    }
  }

  const ByteView file_;
  Findings* const findings_;
};

}  // namespace

void WalkIsoMedia(ByteView file, Findings* findings) { IsoMedia(file, findings).Walk(); }

}  // namespace bdd
