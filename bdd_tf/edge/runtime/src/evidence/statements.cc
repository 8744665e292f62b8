#include "evidence/statements.h"

namespace bdd {
namespace {

constexpr size_t kExcerpt = 160;
// Free text is searched for names this far.
constexpr size_t kSearched = 4096;

// In lower case, each with a bar behind it: one text needs no relocations, which pointers do.
constexpr char kGenerators[] =
    "adobe firefly|automatic1111|bing image creator|black forest labs|chatgpt|comfyui|craiyon|dall-e|"
    "dall\302\267e|dalle|diffusionbee|draw things|fooocus|google ai|gpt-4o|gpt-image|grok|ideogram|"
    "image creator from designer|imagined with ai|invokeai|leonardo.ai|meta ai|midjourney|"
    "nano banana|novelai|openai|playground ai|qwen-image|recraft|sd.next|seedream|stability ai|"
    "stable diffusion|stable-diffusion|stablediffusion|stylegan|swarmui|";

constexpr char kEditors[] =
    "acdsee|affinity photo|camera raw|canva|capture one|darktable|digikam|facetune|faststone|gimp|"
    "graphicsmagick|imagemagick|inkscape|irfanview|krita|lightroom|luminar|meitu|paint.net|"
    "paint shop pro|photo mechanic|photopea|photoscape|photoshop|picasa|picsart|pixelmator|pixlr|"
    "polarr|rawtherapee|remini|snapseed|topaz|vsco|xnview|";

// Keywords of PNG text that only programs for generated images write.
constexpr const char* kGeneratorKeywords[][2] = {
    {"parameters", "Stable Diffusion programs"},
    {"prompt", "ComfyUI and others"},
    {"workflow", "ComfyUI"},
    {"invokeai_metadata", "InvokeAI"},
    {"invokeai_graph", "InvokeAI"},
    {"sd-metadata", "InvokeAI"},
    {"Dream", "InvokeAI"},
    {"fooocus_scheme", "Fooocus"},
    {"generation_data", "TensorArt"},
    {"sui_image_params", "SwarmUI"},
};

struct Source {
  const char *code, *words;
};

// https://cv.iptc.org/newscodes/digitalsourcetype/ and those that C2PA adds.
constexpr Source kSources[] = {
    {"trainedAlgorithmicMedia", "made by a trained model (AI)"},
    {"compositeWithTrainedAlgorithmicMedia", "a composite with parts made by a trained model (AI)"},
    {"trainedAlgorithmicData", "data made by a trained model (AI)"},
    {"compositeSynthetic", "a composite with synthetic parts"},
    {"algorithmicMedia", "made by an algorithm without training data"},
    {"algorithmicallyEnhanced", "enhanced by an algorithm"},
    {"dataDrivenMedia", "made from data"},
    {"digitalCapture", "captured by a digital camera"},
    {"computationalCapture", "captured by a camera that computes the image of several exposures"},
    {"negativeFilm", "digitised from a negative"},
    {"positiveFilm", "digitised from a positive"},
    {"print", "digitised from a print"},
    {"humanEdits", "edited by a person"},
    {"minorHumanEdits", "captured, with minor edits by a person"},
    {"digitalArt", "drawn by a person with software"},
    {"digitalCreation", "made by a person with software"},
    {"softwareImage", "made by a person with software"},
    {"virtualRecording", "recorded from a virtual scene"},
    {"screenCapture", "a screen capture"},
    {"composite", "a composite"},
    {"compositeCapture", "a composite of captured images"},
    {"empty", "an empty canvas"},
};

std::string Lower(std::string text) {
  for (char& letter : text) {
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  }
  return text;
}

bool IsWord(char letter) { return (letter >= 'a' && letter <= 'z') || (letter >= '0' && letter <= '9'); }

// Whether a name stands in a text as words of their own; both in lower case.
bool Names(const std::string& text, const std::string& name) {
  for (size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
    const bool begins = at == 0 || !IsWord(text[at - 1]);
    const size_t end = at + name.size();
    const bool ends = end == text.size() || !(text[end] >= 'a' && text[end] <= 'z');
    if (begins && ends) return true;
  }
  return false;
}

bool NamesOneOf(const std::string& text, const char* names) {
  while (*names != '\0') {
    const char* end = std::strchr(names, '|');
    if (Names(text, std::string(names, end))) return true;
    names = end + 1;
  }
  return false;
}

// Whether a text is what programs of Stable Diffusion write: lines of settings, or JSON of a graph.
bool IsParameters(const std::string& text) {
  const auto has = [&](const char* part) { return text.find(part) != std::string::npos; };
  if (has("Steps: ") && (has("Sampler: ") || has("CFG scale: ") || has("Seed: "))) return true;
  if (has("\"class_type\"") && has("\"inputs\"")) return true;
  if (has("\"sui_image_params\"")) return true;
  return has("\"sampler\"") && has("\"steps\"") && (has("\"seed\"") || has("\"scale\""));
}

}  // namespace

void AddKnownSoftware(ByteView text, const std::string& where, Findings* findings) {
  if (!findings->TakeText()) return;
  const std::string name = CleanText(text, kExcerpt), lower = Lower(name);
  if (NamesOneOf(lower, kGenerators)) {
    findings->Add("generator", Strength::kUnverified, "names a program that generates images: " + Quoted(name), where);
  } else if (NamesOneOf(lower, kEditors)) {
    findings->Add("editor", Strength::kUnverified, "names a program that edits images: " + Quoted(name), where);
  }
}

void AddSoftware(ByteView text, const std::string& where, Findings* findings) {
  if (!findings->TakeText()) return;
  const std::string name = CleanText(text, kExcerpt), lower = Lower(name);
  if (name.empty()) return;
  if (NamesOneOf(lower, kGenerators) || NamesOneOf(lower, kEditors)) return AddKnownSoftware(text, where, findings);
  findings->Add("software", Strength::kUnverified, "names the program that wrote the file: " + Quoted(name), where);
}

void AddText(const char* kind, ByteView text, const std::string& where, Findings* findings) {
  if (!findings->TakeText()) return;
  const std::string shown = CleanText(text, kExcerpt);
  if (shown.empty()) return;
  const std::string searched = CleanText(text, kSearched);
  if (IsParameters(searched)) {
    findings->Add("generator", Strength::kUnverified, "holds parameters of an image generator: " + Quoted(shown),
                  where);
  } else if (NamesOneOf(Lower(searched), kGenerators)) {
    findings->Add("generator", Strength::kUnverified, "names a program that generates images: " + Quoted(shown), where);
  } else {
    findings->Add(kind, Strength::kUnverified, "text: " + Quoted(shown), where);
  }
}

bool IsSourceType(ByteView text) {
  const std::string value = CleanText(text, kExcerpt);
  return value.find("/digitalsourcetype/") != std::string::npos;
}

void AddSourceType(ByteView text, const std::string& where, Findings* findings) {
  if (!findings->TakeText()) return;
  const std::string value = CleanText(text, kExcerpt);
  if (value.empty()) return;
  const size_t slash = value.rfind('/');
  const std::string code = slash == std::string::npos ? value : value.substr(slash + 1);
  for (const Source& source : kSources) {
    if (Lower(code) != Lower(source.code)) continue;
    findings->Add("digital_source_type", Strength::kUnverified,
                  std::string("states the source ") + source.code + ": " + source.words, where);
    return;
  }
  findings->Add("digital_source_type", Strength::kUnverified,
                "states a source that is not known here: " + Quoted(value), where);
}

void AddKeyword(const std::string& keyword, ByteView text, const std::string& where, Findings* findings) {
  const std::string place = where + " " + Quoted(keyword);
  for (const auto& [known, program] : kGeneratorKeywords) {
    if (keyword != known) continue;
    findings->Add("generator", Strength::kUnverified,
                  std::string("text as ") + program + " write it: " + Quoted(CleanText(text, kExcerpt)), place);
    return;
  }
  if (keyword == "Software" || keyword == "Creator" || keyword == "creator_tool") {
    AddSoftware(text, place, findings);
  } else if (keyword == "Comment" || keyword == "UserComment") {
    AddText("comment", text, place, findings);
  } else if (keyword == "Description" || keyword == "Title" || keyword == "Source") {
    AddText("description", text, place, findings);
  }
}

void AddTrailing(ByteView rest, const std::string& where, Findings* findings) {
  if (rest.size == 0) return;
  const char* kind = "";
  if (rest.Is(0, "\xff\xd8\xff")) {
    kind = ", which begin like a JPEG image (phones store depth, gain maps and previews so)";
  } else if (rest.Is(4, "ftyp")) {
    kind = ", which begin like a video (phones store motion photos so)";
  } else if (rest.Is(0, "PK\x03\x04")) {
    kind = ", which begin like a ZIP archive";
  }
  findings->Add("trailing_bytes", Strength::kNeutral,
                Grouped(rest.size) + (rest.size == 1 ? " byte" : " bytes") + " after the end of the image" + kind,
                where);
}

}  // namespace bdd
