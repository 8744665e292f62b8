// Walks image containers from block to block, and hands their metadata on. Nothing is searched for by its bytes alone.
#pragma once

#include "evidence/findings.h"

namespace bdd {

// Everything that a file's metadata says. Takes time in proportion to the file at most, and bounded memory.
void WalkImage(ByteView file, Findings* findings);

void WalkJpeg(ByteView file, Findings* findings);
void WalkPng(ByteView file, Findings* findings);
void WalkGif(ByteView file, Findings* findings);
void WalkWebp(ByteView file, Findings* findings);
void WalkIsoMedia(ByteView file, Findings* findings);

// A TIFF structure: a block EXIF, or a whole TIFF file.
void ReadExif(ByteView tiff, const std::string& where, Findings* findings);
void ReadXmp(ByteView xml, const std::string& where, Findings* findings);
// Photoshop's image resources, and IPTC IIM, which is one of them.
void ReadPhotoshop(ByteView resources, const std::string& where, Findings* findings);
void ReadIptc(ByteView records, const std::string& where, Findings* findings);
// A store of C2PA manifests in JUMBF boxes.
void ReadC2pa(ByteView boxes, const std::string& where, Findings* findings);

}  // namespace bdd
