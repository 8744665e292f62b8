// Memory of the tensors between steps. Tensors that are not needed at the same time share a block, so that the maps of
// a network stay in the cache.
#pragma once

#include <cstdint>
#include <vector>

namespace bdd {

// Tensors that a step reads and writes.
struct TensorUse {
  std::vector<int32_t> reads, writes;
};

struct TensorBlocks {
  std::vector<int> block_of;   // of each tensor; -1: none
  std::vector<int64_t> bytes;  // of each block
};

// Assigns a block to each tensor that a step writes. `bytes` holds the sizes of all tensors; `kept` tensors get none.
// Blocks of what a step reads are not reused before it is done. `result` is not reused at all.
TensorBlocks AssignBlocks(const std::vector<TensorUse>& steps, const std::vector<int64_t>& bytes,
                          const std::vector<bool>& kept, int32_t result);

}  // namespace bdd
