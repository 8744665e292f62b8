#include "detector/json.h"

#include <cmath>
#include <cstdint>
#include <cstring>

namespace bdd {
namespace {

constexpr int kMaxDepth = 32;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

// Moves over one value at a time. Every function returns whether the text was as it should be.
class JsonValue::Reader {
 public:
  Reader(const char* begin, const char* end) : at_(begin), end_(end) {}

  const char* at() const { return at_; }
  bool AtEnd() const { return at_ == end_; }
  void Spaces() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
  }
  bool Take(char c) {
    Spaces();
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }

  bool Value(int depth, JsonValue* value) {
    Spaces();
    if (at_ == end_ || depth > kMaxDepth) return false;
    value->begin_ = at_;
    bool good = false;
    switch (*at_) {
      case '{':
        value->kind_ = kObject;
        good = Members(depth, '}', true);
        break;
      case '[':
        value->kind_ = kArray;
        good = Members(depth, ']', false);
        break;
      case '"':
        value->kind_ = kString;
        good = String();
        break;
      case 't':
        value->kind_ = kTrue;
        good = Word("true");
        break;
      case 'f':
        value->kind_ = kFalse;
        good = Word("false");
        break;
      case 'n':
        value->kind_ = kNull;
        good = Word("null");
        break;
      default: value->kind_ = kNumber; good = Number();
    }
    value->end_ = at_;
    return good;
  }

 private:
  bool Word(const char* word) {
    const size_t length = std::strlen(word);
    if (static_cast<size_t>(end_ - at_) < length || std::memcmp(at_, word, length) != 0) return false;
    at_ += length;
    return true;
  }

  bool String() {
    for (++at_; at_ < end_; ++at_) {
      if (*at_ == '"') return ++at_, true;
      if (static_cast<unsigned char>(*at_) < 0x20) return false;
      if (*at_ == '\\' && ++at_ == end_) return false;
    }
    return false;
  }

  bool Digits() {
    const char* first = at_;
    while (at_ < end_ && IsDigit(*at_)) ++at_;
    return at_ > first;
  }

  bool Number() {
    if (at_ < end_ && *at_ == '-') ++at_;
    if (!Digits()) return false;
    if (at_ < end_ && *at_ == '.' && (++at_, !Digits())) return false;
    if (at_ < end_ && (*at_ == 'e' || *at_ == 'E')) {
      ++at_;
      if (at_ < end_ && (*at_ == '+' || *at_ == '-')) ++at_;
      return Digits();
    }
    return true;
  }

  bool Members(int depth, char close, bool named) {
    ++at_;
    if (Take(close)) return true;
    do {
      Spaces();
      if (named && (at_ == end_ || *at_ != '"' || !String() || !Take(':'))) return false;
      JsonValue member;
      if (!Value(depth + 1, &member)) return false;
    } while (Take(','));
    return Take(close);
  }

  const char* at_;
  const char* end_;
};

JsonValue JsonValue::Parse(const char* text, size_t size) {
  Reader reader(text, text + size);
  JsonValue value;
  if (!reader.Value(0, &value)) return {};
  reader.Spaces();
  return reader.AtEnd() ? value : JsonValue();
}

JsonValue JsonValue::operator[](const char* key) const {
  JsonValue found;
  if (kind_ != kObject) return found;
  Reader reader(begin_ + 1, end_);
  while (!reader.Take('}')) {
    JsonValue name, value;
    if (!reader.Value(0, &name) || !reader.Take(':') || !reader.Value(0, &value)) return {};
    if (name.IsText(key)) found = value;
    reader.Take(',');
  }
  return found;
}

JsonValue JsonValue::At(int index) const {
  if (kind_ != kArray) return {};
  Reader reader(begin_ + 1, end_);
  for (int i = 0; !reader.Take(']'); ++i) {
    JsonValue value;
    if (!reader.Value(0, &value)) return {};
    if (i == index) return value;
    reader.Take(',');
  }
  return {};
}

bool JsonValue::IsText(const char* text) const {
  const size_t length = std::strlen(text);
  return kind_ == kString && static_cast<size_t>(end_ - begin_) == length + 2 &&
         std::memcmp(begin_ + 1, text, length) == 0;
}

bool JsonValue::IsWhole() const {
  if (kind_ != kNumber) return false;
  for (const char* at = begin_; at < end_; ++at) {
    if (!IsDigit(*at) && *at != '-') return false;
  }
  return true;
}

// strtod would read a comma instead of the point in some locales.
bool JsonValue::Number(double* value) const {
  if (kind_ != kNumber) return false;
  const char* at = begin_;
  const bool negative = *at == '-';
  if (negative) ++at;
  uint64_t digits = 0;
  int exponent = 0, written = 0;
  bool fraction = false;
  for (; at < end_ && *at != 'e' && *at != 'E'; ++at) {
    if (*at == '.') {
      fraction = true;
      continue;
    }
    if (written < 19) {
      digits = digits * 10 + static_cast<uint64_t>(*at - '0');
      written += digits != 0;
      exponent -= fraction;
    } else if (!fraction) {
      ++exponent;
    }
  }
  if (at < end_) {
    const bool down = at[1] == '-';
    int given = 0;
    for (at += at[1] == '-' || at[1] == '+' ? 2 : 1; at < end_; ++at) {
      if (given < 10000) given = given * 10 + (*at - '0');
    }
    exponent += down ? -given : given;
  }
  long double scaled = static_cast<long double>(digits);
  if (exponent > 0) scaled *= powl(10.0L, static_cast<long double>(exponent));
  if (exponent < 0) scaled /= powl(10.0L, static_cast<long double>(-exponent));
  *value = static_cast<double>(negative ? -scaled : scaled);
  return std::isfinite(*value);
}

bool JsonValue::Whole(int low, int high, int* value) const {
  double number = 0.0;
  if (!IsWhole() || !Number(&number) || !(number >= low && number <= high)) return false;
  *value = static_cast<int>(number);
  return true;
}

}  // namespace bdd
