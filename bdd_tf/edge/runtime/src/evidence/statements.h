// Statements of metadata in words: programs, cameras, kinds of sources. One place decides who is a generator or an
// editor.
#pragma once

#include <string>

#include "evidence/findings.h"

namespace bdd {

// A field that names the program that wrote the file: `generator`, `editor` or `software`.
void AddSoftware(ByteView text, const std::string& where, Findings* findings);
// A field that an editor's history fills: only programs that are known become evidence.
void AddKnownSoftware(ByteView text, const std::string& where, Findings* findings);
// Free text, such as a comment: `generator` if it holds a generator's parameters or names one, else `kind`.
void AddText(const char* kind, ByteView text, const std::string& where, Findings* findings);
// IPTC DigitalSourceType: its URI, or the code at the end of one.
void AddSourceType(ByteView text, const std::string& where, Findings* findings);
// Whether a text is the URI of an IPTC digital source type.
bool IsSourceType(ByteView text);
// Keyword and text of a PNG's text chunk.
void AddKeyword(const std::string& keyword, ByteView text, const std::string& where, Findings* findings);
// Bytes behind the end of an image.
void AddTrailing(ByteView rest, const std::string& where, Findings* findings);

}  // namespace bdd
