// Visits the texts of a CBOR value (RFC 8949).
#pragma once

#include <utility>

#include "evidence/byte_view.h"

namespace bdd {

// One pass over a value, nested at most kMaxDepth deep. Stops where the bytes are damaged.
template <typename Visit>
class CborVisitor {
 public:
  CborVisitor(ByteView bytes, Visit visit) : bytes_(bytes), visit_(std::move(visit)) {}

  void Run() { Value({}, {}, 0); }

 private:
  static constexpr int kMaxDepth = 16;

  // An initial byte and its number. Returns false at the end of the bytes. Indefinite lengths are `open`.
  bool Head(int* major, uint64_t* number, bool* open) {
    if (at_ >= bytes_.size) return false;
    const uint8_t first = bytes_[at_++], low = first & 31;
    *major = first >> 5;
    *open = low == 31;
    *number = low;
    if (low < 24 || low == 31) return true;
    if (low > 27) return false;
    const size_t count = size_t{1} << (low - 24);
    if (!bytes_.Has(at_, count)) return false;
    *number = 0;
    for (size_t i = 0; i < count; ++i) *number = (*number << 8) | bytes_[at_++];
    return true;
  }

  bool Break() {
    if (bytes_[at_] != 0xff || at_ >= bytes_.size) return false;
    ++at_;
    return true;
  }

  // Reads one value; `text` receives it if it is a string. Returns false at the first damage.
  bool Value(ByteView key, ByteView parent, int depth, ByteView* text = nullptr) {
    int major = 0;
    uint64_t number = 0;
    bool open = false;
    if (depth > kMaxDepth || !Head(&major, &number, &open)) return false;
    if (major == 6) return Value(key, parent, depth + 1, text);  // a tag
    if (major == 2 || major == 3) {
      if (open || number > bytes_.size - at_) return false;
      const ByteView content = bytes_.Part(at_, static_cast<size_t>(number));
      at_ += content.size;
      if (text != nullptr) *text = content;
      if (text == nullptr && major == 3) visit_(key, parent, content);
      return true;
    }
    if (major == 4) {
      for (uint64_t i = 0; open ? !Break() : i < number; ++i) {
        if (!Value(key, parent, depth + 1)) return false;
      }
    } else if (major == 5) {
      for (uint64_t i = 0; open ? !Break() : i < number; ++i) {
        ByteView inner;
        if (!Value({}, {}, depth + 1, &inner) || !Value(inner, key, depth + 1)) return false;
      }
    }
    return true;
  }

  ByteView bytes_;
  Visit visit_;
  size_t at_ = 0;
};

// Calls visit(key, parent, text) for each text: `key` is the map's key that holds it, or holds the list it is in;
// `parent` the key that holds this map.
template <typename Visit>
void VisitCbor(ByteView bytes, Visit visit) {
  CborVisitor<Visit>(bytes, std::move(visit)).Run();
}

}  // namespace bdd
