#include "interpreter/flatbuffer.h"

namespace bdd {

FlatTable FlatBuffer::Root() { return Holds(0, 1, 8) ? FlatTable(this, At<uint32_t>(0)) : FlatTable(); }

FlatTable::FlatTable(FlatBuffer* buffer, uint64_t at) {
  if (!buffer->Holds(at, 1, 4)) return;
  const int64_t table = static_cast<int64_t>(at) - buffer->At<int32_t>(at);
  if (table < 0 || !buffer->Holds(static_cast<uint64_t>(table), 1, 4)) {
    buffer->SetDamaged();
    return;
  }
  const uint64_t vtable = static_cast<uint64_t>(table);
  const uint64_t bytes = buffer->At<uint16_t>(vtable), size = buffer->At<uint16_t>(vtable + 2);
  if (bytes < 4 || size < 4 || !buffer->Holds(vtable, 1, bytes) || !buffer->Holds(at, 1, size)) {
    buffer->SetDamaged();
    return;
  }
  buffer_ = buffer;
  at_ = at;
  size_ = size;
  fields_ = vtable + 4;
  field_count_ = (bytes - 4) / 2;
}

uint64_t FlatTable::FieldAt(int field, uint64_t size) const {
  if (buffer_ == nullptr || static_cast<uint64_t>(field) >= field_count_) return 0;
  const uint64_t offset = buffer_->At<uint16_t>(fields_ + 2 * static_cast<uint64_t>(field));
  if (offset == 0) return 0;
  if (offset < 4 || offset + size > size_) {
    buffer_->SetDamaged();
    return 0;
  }
  return at_ + offset;
}

uint64_t FlatTable::Target(uint64_t at) const {
  const uint64_t target = at + buffer_->At<uint32_t>(at);
  return buffer_->Holds(target, 1, 4) ? target : 0;
}

FlatTable FlatTable::Table(int field) const {
  const uint64_t at = FieldAt(field, 4), target = at == 0 ? 0 : Target(at);
  return target == 0 ? FlatTable() : FlatTable(buffer_, target);
}

bool FlatTable::Vector(int field, uint64_t size, uint64_t* first, uint64_t* count) const {
  const uint64_t at = FieldAt(field, 4), target = at == 0 ? 0 : Target(at);
  if (target == 0) return false;
  *count = buffer_->At<uint32_t>(target);
  *first = target + 4;
  return buffer_->Holds(*first, *count, size);
}

std::vector<FlatTable> FlatTable::Tables(int field) const {
  uint64_t first = 0, count = 0;
  std::vector<FlatTable> tables;
  if (!Vector(field, 4, &first, &count) || !IsCopied(count, kMaxTables)) return tables;
  tables.reserve(static_cast<size_t>(count));
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t target = Target(first + 4 * i);
    tables.push_back(target == 0 ? FlatTable() : FlatTable(buffer_, target));
  }
  return tables;
}

FlatBytes FlatTable::Bytes(int field) const {
  uint64_t first = 0, count = 0;
  if (!Vector(field, 1, &first, &count)) return {};
  return {buffer_->data() + first, static_cast<size_t>(count)};
}

std::string FlatTable::Text(int field) const {
  const FlatBytes bytes = Bytes(field);
  if (bytes.data == nullptr || !IsCopied(bytes.size, kMaxText)) return "";
  return std::string(reinterpret_cast<const char*>(bytes.data), bytes.size);
}

}  // namespace bdd
