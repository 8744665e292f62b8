#include "evidence/findings.h"

#include <cstdio>

namespace bdd {
namespace {

constexpr size_t kMaxSays = 320, kMaxWhere = 100;

// Length of the UTF-8 character at a place, and its code point; 0 if there is no valid one.
size_t Character(ByteView text, size_t at, uint32_t* code) {
  const uint8_t first = text[at];
  if (first < 0x80) {
    *code = first;
    return 1;
  }
  const size_t count = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || !text.Has(at, count)) return 0;
  *code = first & (0x7fu >> count);
  for (size_t i = 1; i < count; ++i) {
    if ((text[at + i] & 0xc0) != 0x80) return 0;
    *code = (*code << 6) | (text[at + i] & 0x3fu);
  }
  const bool shorter = (count == 3 && *code < 0x800) || (count == 4 && *code < 0x10000);
  return shorter || *code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000) ? 0 : count;
}

// Whether a character moves, hides or reorders what stands around it on a terminal or a page.
bool Disturbs(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x200b && code <= 0x200f) ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2060 && code <= 0x206f) || code == 0x061c || code == 0xfeff ||
         (code >= 0xfff9 && code <= 0xfffb) || (code >= 0xe0000 && code < 0xe0080) || code == 0xfffe || code == 0xffff;
}

const char* Name(Strength strength) {
  switch (strength) {
    case Strength::kUnverified: return "unverified";
    case Strength::kHint: return "hint";
    default: return "neutral";
  }
}

void AppendJson(const std::string& text, std::string* json) {
  *json += '"';
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') *json += '\\';
    *json += letter;
  }
  *json += '"';
}

}  // namespace

std::string CleanText(ByteView text, size_t limit) {
  text = text.First(8 * limit);
  std::string clean;
  bool space = false;
  for (size_t at = 0; at < text.size;) {
    uint32_t code = 0;
    size_t count = Character(text, at, &code);
    if (count == 0 && text.size - at < 4 && text.size == 8 * limit) break;  // a character that First cut
    char latin[2] = {};
    const char* letters = reinterpret_cast<const char*>(text.data + at);
    size_t bytes = count;
    if (count == 0) {
      code = text[at];
      latin[0] = static_cast<char>(0xc0 | (code >> 6));
      latin[1] = static_cast<char>(0x80 | (code & 0x3f));
      letters = latin;
      bytes = 2;
      count = 1;
    }
    at += count;
    if (code == ' ' || Disturbs(code)) {
      space = !clean.empty();
      continue;
    }
    if (clean.size() + bytes + (space ? 1 : 0) > limit) return clean + "\xe2\x80\xa6";
    if (space) clean += ' ';
    space = false;
    clean.append(letters, bytes);
  }
  return clean;
}

std::string Quoted(const std::string& text) { return '"' + text + '"'; }

std::string Grouped(uint64_t number) {
  char digits[24];
  std::snprintf(digits, sizeof digits, "%llu", static_cast<unsigned long long>(number));
  std::string text = digits;
  for (size_t at = text.size(); at > 3;) text.insert(at -= 3, 1, ',');
  return text;
}

void Findings::Add(const char* kind, Strength strength, const std::string& says, const std::string& where) {
  if (!TakeText()) return;
  Item item = {kind, Name(strength), CleanText(ViewOf(says), kMaxSays), CleanText(ViewOf(where), kMaxWhere), 0, 0};
  for (const Item& other : items_) {
    if (std::strcmp(other.kind, kind) == 0 && other.says == item.says) return;
  }
  items_.push_back(std::move(item));
}

void Findings::AddThumbnail(ByteView thumbnail, const std::string& where) {
  if (thumbnail.data < file_.data || thumbnail.data + thumbnail.size > file_.data + file_.size) return;
  const size_t count = items_.size();
  Add("thumbnail", Strength::kNeutral, "an embedded thumbnail of " + Grouped(thumbnail.size) + " bytes", where);
  if (items_.size() == count) return;
  items_.back().at = static_cast<size_t>(thumbnail.data - file_.data);
  items_.back().bytes = thumbnail.size;
}

void Findings::AddDamage(const std::string& what, const std::string& where) {
  Add("damaged", Strength::kNeutral, what, where);
}

std::string Findings::Json() const {
  std::string json = "[";
  for (const Item& item : items_) {
    if (json.size() > 1) json += ',';
    json += "{\"kind\":";
    AppendJson(item.kind, &json);
    json += ",\"says\":";
    AppendJson(item.says, &json);
    json += ",\"where\":";
    AppendJson(item.where, &json);
    json += ",\"strength\":";
    AppendJson(item.strength, &json);
    if (item.bytes > 0) json += ",\"at\":" + std::to_string(item.at) + ",\"bytes\":" + std::to_string(item.bytes);
    json += '}';
  }
  return json + ']';
}

}  // namespace bdd
