// A range of a file's bytes. Every access is checked: bytes outside read as zero, parts outside are empty.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace bdd {

struct ByteView {
  const uint8_t* data = nullptr;
  size_t size = 0;

  bool Has(size_t at, size_t count) const { return at <= size && count <= size - at; }
  // The part, empty unless all of it lies inside.
  ByteView Part(size_t at, size_t count) const { return Has(at, count) ? ByteView{data + at, count} : ByteView{}; }
  ByteView From(size_t at) const { return at < size ? ByteView{data + at, size - at} : ByteView{}; }
  // At most the first `count` bytes.
  ByteView First(size_t count) const { return {data, count < size ? count : size}; }

  uint8_t operator[](size_t at) const { return at < size ? data[at] : uint8_t{0}; }
  uint32_t U16(size_t at) const { return (uint32_t{(*this)[at]} << 8) | (*this)[at + 1]; }
  uint32_t U32(size_t at) const { return (U16(at) << 16) | U16(at + 2); }
  uint64_t U64(size_t at) const { return (uint64_t{U32(at)} << 32) | U32(at + 4); }
  uint32_t U16Little(size_t at) const { return (uint32_t{(*this)[at + 1]} << 8) | (*this)[at]; }
  uint32_t U32Little(size_t at) const { return (U16Little(at + 2) << 16) | U16Little(at); }

  // Whether `text` without its terminating zero stands at a place.
  template <size_t N>
  bool Is(size_t at, const char (&text)[N]) const {
    return Has(at, N - 1) && std::memcmp(data + at, text, N - 1) == 0;
  }
  // The place of a byte; `size` if there is none.
  size_t Find(uint8_t byte, size_t from) const {
    if (from >= size) return size;
    const void* found = std::memchr(data + from, byte, size - from);
    return found == nullptr ? size : static_cast<size_t>(static_cast<const uint8_t*>(found) - data);
  }
};

}  // namespace bdd
