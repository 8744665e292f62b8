// AMX's tile instructions in plain C++, for machines without them. kernels/amx.cc includes this file if the macro
// BDD_TILES names it. Tiles have 16 rows of 64 bytes, as the kernels configure them.
#pragma once

#include <cstdint>
#include <cstring>

namespace emulated {

struct Tile {
  int8_t bytes[16][64];
};

inline Tile* Tiles() {
  static thread_local Tile tiles[8];
  return tiles;
}

inline void Load(int tile, const void* from, size_t stride) {
  for (size_t row = 0; row < 16; ++row)
    std::memcpy(Tiles()[tile].bytes[row], static_cast<const char*>(from) + row * stride, 64);
}

inline void Store(int tile, void* to, size_t stride) {
  for (size_t row = 0; row < 16; ++row)
    std::memcpy(static_cast<char*>(to) + row * stride, Tiles()[tile].bytes[row], 64);
}

inline void Zero(int tile) { std::memset(&Tiles()[tile], 0, sizeof(Tile)); }

// TDPBSSD: sums[m][n] += products of four bytes each, a[m][4 k + j] * b[k][4 n + j].
inline void Multiply(int sums, int a, int b) {
  int32_t numbers[16][16];
  std::memcpy(numbers, &Tiles()[sums], sizeof numbers);
  for (int m = 0; m < 16; ++m) {
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 16; ++n) {
        for (int j = 0; j < 4; ++j) numbers[m][n] += Tiles()[a].bytes[m][4 * k + j] * Tiles()[b].bytes[k][4 * n + j];
      }
    }
  }
  std::memcpy(&Tiles()[sums], numbers, sizeof numbers);
}

}  // namespace emulated

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbssd
#undef _tile_loadconfig
#undef _tile_release
#define _tile_loadd emulated::Load
#define _tile_stored emulated::Store
#define _tile_zero emulated::Zero
#define _tile_dpbssd emulated::Multiply
#define _tile_loadconfig(configuration) static_cast<void>(configuration)
#define _tile_release() static_cast<void>(0)
