// XMP (ISO 16684-1): RDF in XML. The reader takes tags, attributes and text in turn, in one pass, and looks at a few
// properties by their names. Prefixes are those that the specifications of the properties use.
#include "evidence/containers.h"
#include "evidence/statements.h"

namespace bdd {
namespace {

constexpr size_t kMaxName = 80;

bool IsSpace(uint8_t letter) { return letter == ' ' || letter == '\t' || letter == '\r' || letter == '\n'; }
bool EndsName(uint8_t letter) {
  return IsSpace(letter) || letter == '=' || letter == '/' || letter == '>' || letter == '<';
}

// Text with XML's five entities, and characters by number below 128, resolved; other references stay as they are.
std::string Resolved(ByteView text) {
  static constexpr struct {
    const char* name;
    char letter;
  } kEntities[] = {{"&amp;", '&'},   {"&lt;", '<'},   {"&gt;", '>'},  {"&quot;", '"'},
                   {"&apos;", '\''}, {"&#xA;", '\n'}, {"&#10;", '\n'}};
  std::string out;
  text = text.First(1 << 16);
  for (size_t at = 0; at < text.size;) {
    bool found = false;
    for (const auto& entity : kEntities) {
      const size_t length = std::strlen(entity.name);
      if (text[at] != '&' || !text.Has(at, length) || std::memcmp(text.data + at, entity.name, length) != 0) continue;
      out += entity.letter;
      at += length;
      found = true;
      break;
    }
    if (!found) out += static_cast<char>(text[at++]);
  }
  return out;
}

class Xmp {
 public:
  Xmp(ByteView xml, const std::string& where, Findings* findings) : xml_(xml), where_(where), findings_(findings) {}

  void Read() {
    while (at_ < xml_.size && !findings_->full()) {
      const size_t tag = xml_.Find('<', at_);
      Property(property_, xml_.Part(at_, tag - at_));
      at_ = tag + 1;
      if (at_ >= xml_.size) break;
      if (xml_[at_] == '?') {
        Skip("?>");
      } else if (xml_.Is(at_, "!--")) {
        Skip("-->");
      } else if (xml_[at_] == '!') {
        Skip(">");
      } else if (xml_[at_] == '/') {
        EndTag();
      } else {
        StartTag();
      }
    }
    const std::string camera = CleanText(ViewOf(make_ + " " + model_), 120);
    if (!camera.empty()) {
      findings_->Add("camera", Strength::kUnverified, "names a camera: " + Quoted(camera),
                     where_ + " tiff:Make, Model");
    }
  }

 private:
  template <size_t N>
  void Skip(const char (&end)[N]) {
    while (at_ < xml_.size) {
      at_ = xml_.Find(static_cast<uint8_t>(end[0]), at_);
      if (xml_.Is(at_, end)) {
        at_ += N - 1;
        return;
      }
      ++at_;
    }
  }

  std::string TakeName() {
    const size_t begin = at_;
    while (at_ < xml_.size && !EndsName(xml_[at_])) ++at_;
    const ByteView name = xml_.Part(begin, at_ - begin).First(kMaxName);
    return std::string(reinterpret_cast<const char*>(name.data), name.size);
  }

  // Elements of RDF inside a property hold its value.
  static bool IsRdf(const std::string& name) { return name.compare(0, 4, "rdf:") == 0; }

  void EndTag() {
    ++at_;
    if (!IsRdf(TakeName())) property_.clear();
    Skip(">");
  }

  void StartTag() {
    const std::string name = TakeName();
    if (!IsRdf(name)) property_ = name;
    while (at_ < xml_.size && xml_[at_] != '>') {
      const uint8_t letter = xml_[at_];
      if (letter == '<') return;  // damaged: the next tag begins
      if (IsSpace(letter) || letter == '/' || letter == '=') {
        if (letter == '/' && xml_[at_ + 1] == '>') property_.clear();
        ++at_;
        continue;
      }
      const std::string attribute = TakeName();
      while (IsSpace(xml_[at_]) && at_ < xml_.size) ++at_;
      if (xml_[at_] != '=') continue;
      ++at_;
      while (IsSpace(xml_[at_]) && at_ < xml_.size) ++at_;
      const uint8_t quote = xml_[at_];
      if (quote != '"' && quote != '\'') continue;
      const size_t begin = at_ + 1, end = xml_.Find(quote, begin);
      Property(attribute == "rdf:resource" ? property_ : attribute, xml_.Part(begin, end - begin));
      at_ = end + 1;
    }
    ++at_;
  }

  void Property(const std::string& name, ByteView raw) {
    if (name.empty() || raw.size == 0) return;
    const size_t colon = name.find(':');
    const std::string local = colon == std::string::npos ? name : name.substr(colon + 1);
    const bool known = local == "DigitalSourceType" || local == "digitalSourceType" || local == "CreatorTool" ||
                       local == "softwareAgent" || local == "AISystemUsed" || local == "AIPromptInformation" ||
                       name == "tiff:Software" || name == "tiff:Make" || name == "tiff:Model" ||
                       name == "photoshop:Credit" || name == "GIMP:Version" || name == "dcterms:provenance" ||
                       name == "exif:UserComment" || name == "dc:description";
    if (!known) return;
    const std::string text = Resolved(raw);
    const ByteView value = ViewOf(text);
    const std::string shown = CleanText(value, 160), where = where_ + " " + name;
    if (shown.empty()) return;
    if (local == "DigitalSourceType" || local == "digitalSourceType") {
      AddSourceType(value, where, findings_);
    } else if (local == "AISystemUsed" || local == "AIPromptInformation") {
      findings_->Add("generator", Strength::kUnverified, "names an AI system or its prompt: " + Quoted(shown), where);
    } else if (local == "CreatorTool" || name == "tiff:Software") {
      AddSoftware(value, where, findings_);
    } else if (local == "softwareAgent" || name == "photoshop:Credit") {
      AddKnownSoftware(value, where, findings_);
    } else if (name == "GIMP:Version") {
      AddKnownSoftware(ViewOf("GIMP " + text), where, findings_);
    } else if (name == "dcterms:provenance") {
      findings_->Add("c2pa_remote", Strength::kUnverified,
                     "points to a C2PA manifest elsewhere, which was not fetched: " + Quoted(shown), where);
    } else if (name == "tiff:Make") {
      make_ = shown;
    } else if (name == "tiff:Model") {
      model_ = shown;
    } else {
      AddText(name == "dc:description" ? "description" : "comment", value, where, findings_);
    }
  }

  const ByteView xml_;
  const std::string where_;
  Findings* const findings_;
  size_t at_ = 0;
  std::string property_, make_, model_;
};

}  // namespace

void ReadXmp(ByteView xml, const std::string& where, Findings* findings) {
  Xmp(findings->Charge(xml), where, findings).Read();
}

}  // namespace bdd
