// A bounded JSON reader for the metadata of a detector: values are ranges of the text, nothing is copied.
#pragma once

#include <cstddef>

namespace bdd {

class JsonValue {
 public:
  enum Kind { kMissing, kObject, kArray, kString, kNumber, kTrue, kFalse, kNull };

  // Checks a whole text (RFC 8259, nested at most 32 deep) and returns its value; kMissing if it is damaged.
  static JsonValue Parse(const char* text, size_t size);

  Kind kind() const { return kind_; }
  // The value of a key that has no escapes, the last one if it occurs twice; kMissing if this is no object or lacks it.
  JsonValue operator[](const char* key) const;
  // An element of an array; kMissing if this is none, or has fewer.
  JsonValue At(int index) const;

  bool IsText(const char* text) const;  // a string without escapes
  bool IsWhole() const;                 // a number without fraction and exponent
  // The number, within one unit in the last place; false if this is none, or it is too large.
  bool Number(double* value) const;
  // A whole number in [low, high].
  bool Whole(int low, int high, int* value) const;

 private:
  class Reader;

  Kind kind_ = kMissing;
  const char* begin_ = nullptr;
  const char* end_ = nullptr;
};

}  // namespace bdd
