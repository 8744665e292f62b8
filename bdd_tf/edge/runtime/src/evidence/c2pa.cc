// C2PA 2.1: a store of manifests in JUMBF boxes (ISO/IEC 19566-5). The last manifest is the active one. Its claim names
// the program that made it; its actions name kinds of sources. Signatures are not checked here.
#include "evidence/cbor.h"
#include "evidence/containers.h"
#include "evidence/statements.h"

namespace bdd {
namespace {

struct JumbfBox {
  ByteView type, content;
  size_t bytes = 0;  // with the header; 0: there is no box
};

JumbfBox BoxAt(ByteView parent, size_t at) {
  if (!parent.Has(at, 8)) return {};
  const size_t bytes = parent.U32(at) == 0 ? parent.size - at : parent.U32(at);
  if (bytes < 8) return {};
  // The last box may be cut off, at the limit of a store's size.
  return {parent.Part(at + 4, 4), parent.From(at + 8).First(bytes - 8), bytes};
}

// A box of boxes: its label, and what follows its description.
struct SuperBox {
  std::string label;
  ByteView children;
};

bool AsSuperBox(const JumbfBox& box, SuperBox* super) {
  if (!box.type.Is(0, "jumb")) return false;
  const JumbfBox description = BoxAt(box.content, 0);
  if (description.bytes == 0 || !description.type.Is(0, "jumd")) return false;
  const ByteView label = description.content.From(17);  // behind a type of 16 bytes and flags
  super->label = CleanText(label.First(label.Find(0, 0)), 200);
  super->children = box.content.From(description.bytes);
  return true;
}

// Calls visit(SuperBox) for each child that is one.
template <typename Visit>
void ForEachSuperBox(ByteView parent, Visit visit) {
  for (size_t at = 0; at < parent.size;) {
    const JumbfBox box = BoxAt(parent, at);
    if (box.bytes == 0) return;
    SuperBox super;
    if (AsSuperBox(box, &super)) visit(super);
    at += box.bytes;
  }
}

bool Begins(const std::string& text, const char* with) { return text.compare(0, std::strlen(with), with) == 0; }

// The content of the first CBOR box.
ByteView CborOf(const SuperBox& super) {
  for (size_t at = 0; at < super.children.size;) {
    const JumbfBox box = BoxAt(super.children, at);
    if (box.bytes == 0) break;
    if (box.type.Is(0, "cbor")) return box.content;
    at += box.bytes;
  }
  return {};
}

// The names of programs in a claim.
struct Claim {
  std::string generator, name, version;

  void Read(ByteView cbor) {
    VisitCbor(cbor, [this](ByteView key, ByteView parent, ByteView text) {
      const bool info = parent.Is(0, "claim_generator_info");
      if (key.Is(0, "claim_generator") && key.size == 15 && generator.empty()) generator = CleanText(text, 120);
      if (info && key.Is(0, "name") && name.empty()) name = CleanText(text, 120);
      if (info && key.Is(0, "version") && version.empty()) version = CleanText(text, 40);
    });
  }
  std::string Words() const {
    if (name.empty()) return generator;
    return version.empty() ? name : name + " " + version;
  }
};

void ReadActions(ByteView cbor, const std::string& where, Findings* findings) {
  VisitCbor(cbor, [&](ByteView key, ByteView parent, ByteView text) {
    if (key.Is(0, "digitalSourceType")) AddSourceType(text, where + " actions", findings);
    const bool agent = key.Is(0, "softwareAgent") || (parent.Is(0, "softwareAgent") && key.Is(0, "name"));
    if (agent) AddKnownSoftware(text, where + " actions", findings);
  });
}

void ReadManifest(const SuperBox& manifest, int earlier, const std::string& where, Findings* findings) {
  Claim claim;
  ForEachSuperBox(manifest.children, [&](const SuperBox& part) {
    if (Begins(part.label, "c2pa.claim")) claim.Read(CborOf(part));
    if (part.label != "c2pa.assertions") return;
    ForEachSuperBox(part.children, [&](const SuperBox& assertion) {
      if (Begins(assertion.label, "c2pa.actions")) ReadActions(CborOf(assertion), where, findings);
    });
  });
  std::string says = "a C2PA manifest";
  if (!claim.Words().empty()) says += " by " + Quoted(claim.Words());
  if (earlier > 0) says += ", with " + std::to_string(earlier) + (earlier == 1 ? " earlier one" : " earlier ones");
  findings->Add("c2pa", Strength::kUnverified, says + "; its signature was not checked", where);
}

}  // namespace

void ReadC2pa(ByteView boxes, const std::string& where, Findings* findings) {
  boxes = findings->Charge(boxes);
  ForEachSuperBox(boxes, [&](const SuperBox& store) {
    if (store.label != "c2pa") return;
    SuperBox last;
    int count = 0;
    ForEachSuperBox(store.children, [&](const SuperBox& manifest) {
      last = manifest;
      ++count;
    });
    if (count > 0) {
      ReadManifest(last, count - 1, where, findings);
    } else {
      findings->AddDamage("a C2PA store without a manifest", where);
    }
  });
}

}  // namespace bdd
