// Reads the options of custom operators: a FlexBuffers map from names to integers
// (https://flatbuffers.dev/flatbuffers_internals.html).
#pragma once

#include <cstddef>
#include <cstdint>

namespace bdd {

// Finds the integer stored under `key` in the map `data`. Every offset is checked against `size`. Returns false if the
// map is damaged, or if it has no such key or no integer there.
bool FlexbufferInt(const uint8_t* data, size_t size, const char* key, int64_t* value);

}  // namespace bdd
