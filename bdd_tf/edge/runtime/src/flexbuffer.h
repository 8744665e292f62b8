// The options of custom operators: a FlexBuffers map of integers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bdd {

// Finds the integer under `key` in the map that `data` holds. Every offset is checked against `size`.
// Returns false where there is no such map, key or integer.
bool FlexbufferInt(const uint8_t* data, size_t size, const char* key, int64_t* value);

}  // namespace bdd
