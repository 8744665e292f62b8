// Bounded reading of FlatBuffers. Every offset, size and count is checked before it is used; what cannot be read is
// empty, and the buffer remembers that it is damaged.
//
// https://flatbuffers.dev/internals/: a table begins with the distance back to its vtable, which holds the size of the
// table and, for each field, its offset in the table, or 0 for a field that has its default value.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace bdd {

class FlatTable;

class FlatBuffer {
 public:
  FlatBuffer(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  FlatTable Root();
  bool damaged() const { return damaged_; }

  // Whether [at, at + count * size) lies inside; remembers if it does not.
  bool Holds(uint64_t at, uint64_t count, uint64_t size) {
    const bool inside = at <= size_ && count <= (size_ - at) / size;
    damaged_ = damaged_ || !inside;
    return inside;
  }

  // A number at a position that Holds has checked.
  template <typename T>
  T At(uint64_t at) const {
    T value;
    std::memcpy(&value, data_ + at, sizeof value);
    return value;
  }
  const uint8_t* data() const { return data_; }
  void SetDamaged() { damaged_ = true; }

 private:
  const uint8_t* data_;
  size_t size_;
  bool damaged_ = false;
};

// Bytes inside a buffer.
struct FlatBytes {
  const uint8_t* data = nullptr;
  size_t size = 0;
};

class FlatTable {
 public:
  FlatTable() = default;
  FlatTable(FlatBuffer* buffer, uint64_t at);

  template <typename T>
  T Number(int field, T fallback) const {
    const uint64_t at = FieldAt(field, sizeof(T));
    return at == 0 ? fallback : buffer_->At<T>(at);
  }
  FlatTable Table(int field) const;
  std::vector<FlatTable> Tables(int field) const;
  FlatBytes Bytes(int field) const;
  std::string Text(int field) const;

  // The number of a vector that holds only one.
  template <typename T>
  T OnlyNumber(int field, T fallback) const {
    uint64_t first = 0, count = 0;
    return Vector(field, sizeof(T), &first, &count) && count == 1 ? buffer_->At<T>(first) : fallback;
  }

  template <typename T>
  std::vector<T> Numbers(int field) const {
    uint64_t first = 0, count = 0;
    std::vector<T> values;
    if (!Vector(field, sizeof(T), &first, &count) || !IsCopied(count, kMaxNumbers)) return values;
    values.reserve(static_cast<size_t>(count));
    for (uint64_t i = 0; i < count; ++i) values.push_back(buffer_->At<T>(first + i * sizeof(T)));
    return values;
  }

 private:
  static constexpr uint64_t kMaxNumbers = 128, kMaxText = 1024, kMaxTables = 1 << 16;

  // The position of a field of this size; 0 if the table lacks it.
  uint64_t FieldAt(int field, uint64_t size) const;
  // The target of the offset at a position; 0 if it leads outside.
  uint64_t Target(uint64_t at) const;
  bool Vector(int field, uint64_t size, uint64_t* first, uint64_t* count) const;
  // Limits what is copied: tables may share vectors, so that a small file could ask for any amount of memory.
  bool IsCopied(uint64_t count, uint64_t limit) const {
    if (count > limit) buffer_->SetDamaged();
    return count <= limit;
  }

  FlatBuffer* buffer_ = nullptr;  // null for a table that does not exist
  uint64_t at_ = 0, size_ = 0;
  uint64_t fields_ = 0, field_count_ = 0;  // offsets of fields
};

}  // namespace bdd
