// Inflates zlib streams (RFC 1950, 1951) up to a limit.
#pragma once

#include <string>

#include "evidence/byte_view.h"

namespace bdd {

// Appends at most `limit` bytes to `out`. Returns false if the stream is damaged; what came before remains.
// The checksum at the end is not compared: a stream may be longer than the limit.
bool Inflate(ByteView zlib, size_t limit, std::string* out);

}  // namespace bdd
