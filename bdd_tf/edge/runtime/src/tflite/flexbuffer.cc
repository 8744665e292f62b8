#include "tflite/flexbuffer.h"

#include <cstring>

namespace bdd {
namespace {

constexpr int kInt = 1, kUInt = 2, kIndirectInt = 6, kIndirectUInt = 7, kMap = 9, kBool = 26;

struct Bytes {
  const uint8_t* data;
  size_t size;

  // Little-endian integer of `width` bytes (1, 2, 4 or 8) at `at`.
  bool Read(size_t at, size_t width, uint64_t* value) const {
    if (at > size || width > size - at) return false;
    *value = 0;
    for (size_t i = 0; i < width; ++i) *value |= uint64_t{data[at + i]} << (8 * i);
    return true;
  }

  // Position that the offset at `at` refers to; offsets count backwards.
  bool Follow(size_t at, size_t width, size_t* target) const {
    uint64_t back = 0;
    if (!Read(at, width, &back) || back > at) return false;
    *target = at - static_cast<size_t>(back);
    return true;
  }
};

int64_t SignExtend(uint64_t value, size_t width) {
  const int shift = static_cast<int>(64 - 8 * width);
  return static_cast<int64_t>(value << shift) >> shift;
}

bool KeyIs(const Bytes& bytes, size_t at, const char* key) {
  const size_t length = std::strlen(key) + 1;  // includes the terminating zero
  return at <= bytes.size && length <= bytes.size - at && std::memcmp(bytes.data + at, key, length) == 0;
}

bool IntegerAt(const Bytes& bytes, size_t at, size_t width, uint8_t packed_type, int64_t* value) {
  const int type = packed_type >> 2;
  uint64_t raw = 0;
  if (type == kIndirectInt || type == kIndirectUInt) {
    if (!bytes.Follow(at, width, &at)) return false;
    width = size_t{1} << (packed_type & 3);
  } else if (type != kInt && type != kUInt && type != kBool) {
    return false;
  }
  if (!bytes.Read(at, width, &raw)) return false;
  *value = type == kInt || type == kIndirectInt ? SignExtend(raw, width) : static_cast<int64_t>(raw);
  return true;
}

}  // namespace

bool FlexbufferInt(const uint8_t* data, size_t size, const char* key, int64_t* value) {
  // The data ends with the root, its type, and its width in bytes.
  if (data == nullptr || size < 3 || size > (1u << 20)) return false;
  const Bytes bytes{data, size};
  const size_t root_width = data[size - 1];
  const uint8_t root_type = data[size - 2];
  if ((root_width != 1 && root_width != 2 && root_width != 4 && root_width != 8) || size - 2 < root_width ||
      (root_type >> 2) != kMap) {
    return false;
  }
  const size_t width = size_t{1} << (root_type & 3);
  size_t map = 0, keys = 0;
  uint64_t count = 0, key_width = 0;
  // A map is preceded by the offset of its keys, their width, and the number of entries.
  if (!bytes.Follow(size - 2 - root_width, root_width, &map) || map < 3 * width ||
      !bytes.Follow(map - 3 * width, width, &keys) || !bytes.Read(map - 2 * width, width, &key_width) ||
      !bytes.Read(map - width, width, &count)) {
    return false;
  }
  if ((key_width != 1 && key_width != 2 && key_width != 4 && key_width != 8) || count > size) return false;
  for (uint64_t i = 0; i < count; ++i) {
    size_t name = 0;
    if (!bytes.Follow(keys + static_cast<size_t>(i * key_width), static_cast<size_t>(key_width), &name)) return false;
    if (!KeyIs(bytes, name, key)) continue;
    uint64_t type = 0;
    // The values are followed by their types, one byte each.
    if (!bytes.Read(map + static_cast<size_t>(count) * width + static_cast<size_t>(i), 1, &type)) return false;
    return IntegerAt(bytes, map + static_cast<size_t>(i) * width, width, static_cast<uint8_t>(type), value);
  }
  return false;
}

}  // namespace bdd
