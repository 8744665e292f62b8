// The evidence that was found in one file: a bounded list, and its JSON.
#pragma once

#include <string>
#include <vector>

#include "evidence/byte_view.h"

namespace bdd {

enum class Strength { kUnverified, kHint, kNeutral };

// Text of a file for people: UTF-8 (bytes that are not count as Latin-1) on one line, without control and bidirectional
// characters, at most `limit` bytes and an ellipsis. Reads at most eight times as many bytes.
std::string CleanText(ByteView text, size_t limit);
inline ByteView ViewOf(const std::string& text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }
// The same text in double quotation marks.
std::string Quoted(const std::string& text);
// 12345 as 12,345
std::string Grouped(uint64_t number);

class Findings {
 public:
  explicit Findings(ByteView file) : file_(file) {}

  // Adds an item unless the list has it already. Items after the first kMost are left out.
  void Add(const char* kind, Strength strength, const std::string& says, const std::string& where);
  // A JPEG file inside the image's file, in a block of metadata.
  void AddThumbnail(ByteView thumbnail, const std::string& where);
  // A block that breaks the rules of its format.
  void AddDamage(const std::string& what, const std::string& where);

  // Whether the file was read long enough: the list is full, or too many texts were looked at.
  bool full() const { return items_.size() >= kMost || texts_ >= kMostTexts; }
  // Counts a text that is looked at; false if it shall be left out.
  bool TakeText() {
    ++texts_;
    return !full();
  }
  // The part of a block of metadata that may be read: all blocks of a file together have a limit.
  ByteView Charge(ByteView block) {
    block = block.First(budget_);
    budget_ -= block.size;
    return block;
  }
  // Bytes that may still be inflated: one budget for a whole file.
  size_t* inflate_budget() { return &inflate_budget_; }
  std::string Json() const;

 private:
  static constexpr size_t kMost = 48, kMostTexts = 1000;
  struct Item {
    const char* kind;
    const char* strength;
    std::string says, where;
    size_t at, bytes;  // of a thumbnail
  };

  ByteView file_;
  std::vector<Item> items_;
  size_t texts_ = 0;
  size_t budget_ = size_t{16} << 20, inflate_budget_ = size_t{1} << 20;
};

}  // namespace bdd
