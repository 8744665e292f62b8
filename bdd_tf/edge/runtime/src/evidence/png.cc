// PNG (ISO/IEC 15948, third edition): text, EXIF and C2PA chunks, and bytes after IEND.
#include "evidence/containers.h"
#include "evidence/inflate.h"
#include "evidence/statements.h"

namespace bdd {
namespace {

constexpr size_t kMaxKeyword = 79;
// Of a compressed text, this much is read; XMP is read in full up to its own limit.
constexpr size_t kMaxText = 4096, kMaxXmp = 1 << 18;

void AddChunkText(const std::string& keyword, ByteView text, const std::string& where, Findings* findings) {
  if (keyword == "XML:com.adobe.xmp") {
    ReadXmp(text, where + " XMP", findings);
  } else {
    AddKeyword(keyword, text, where, findings);
  }
}

void AddCompressed(const std::string& keyword, ByteView zlib, const std::string& where, Findings* findings) {
  size_t* budget = findings->inflate_budget();
  const size_t wanted = keyword == "XML:com.adobe.xmp" ? kMaxXmp : kMaxText;
  std::string text;
  const bool good = Inflate(zlib, wanted < *budget ? wanted : *budget, &text);
  *budget -= text.size();
  if (!good) findings->AddDamage("a compressed text cannot be inflated", where);
  AddChunkText(keyword, ViewOf(text), where, findings);
}

void ReadText(ByteView chunk, char type, Findings* findings) {
  const size_t end = chunk.First(kMaxKeyword + 1).Find(0, 0);
  if (end == 0 || end > kMaxKeyword || end == chunk.size) return;
  const std::string keyword = CleanText(chunk.First(end), kMaxKeyword);
  const ByteView rest = chunk.From(end + 1);
  if (type == 't') return AddChunkText(keyword, rest, "PNG tEXt", findings);
  if (type == 'z') {
    if (rest[0] == 0) AddCompressed(keyword, rest.From(1), "PNG zTXt", findings);
    return;
  }
  // iTXt: a flag, a method, a language and a translated keyword come first.
  const size_t language = rest.Find(0, 2), translated = rest.Find(0, language + 1);
  if (translated >= rest.size) return;
  const ByteView text = rest.From(translated + 1);
  if (rest[0] == 0) {
    AddChunkText(keyword, text, "PNG iTXt", findings);
  } else if (rest[1] == 0) {
    AddCompressed(keyword, text, "PNG iTXt", findings);
  }
}

}  // namespace

void WalkPng(ByteView file, Findings* findings) {
  for (size_t at = 8; file.Has(at, 8) && !findings->full();) {
    const size_t bytes = file.U32(at);
    const ByteView content = file.Part(at + 8, bytes);
    if (content.size != bytes) return;  // cut off
    if (file.Is(at + 4, "tEXt") || file.Is(at + 4, "zTXt") || file.Is(at + 4, "iTXt")) {
      ReadText(content, static_cast<char>(file[at + 4]), findings);
    } else if (file.Is(at + 4, "eXIf")) {
      ReadExif(content.Is(0, "Exif\x00\x00") ? content.From(6) : content, "PNG eXIf", findings);
    } else if (file.Is(at + 4, "caBX")) {
      ReadC2pa(content, "PNG caBX", findings);
    } else if (file.Is(at + 4, "IEND")) {
      return AddTrailing(file.From(at + 12 + bytes), "PNG", findings);
    }
    at += 12 + bytes;
  }
}

}  // namespace bdd
