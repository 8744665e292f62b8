#include "interpreter/tensor_blocks.h"

#include <algorithm>

namespace bdd {
namespace {

// The smallest free block that is large enough, else the largest free one, else a new one.
int ChooseBlock(int64_t needed, std::vector<bool>* free, std::vector<int64_t>* bytes) {
  int best = -1;
  for (size_t i = 0; i < bytes->size(); ++i) {
    if (!(*free)[i]) continue;
    const int64_t size = (*bytes)[i], chosen = best < 0 ? -1 : (*bytes)[static_cast<size_t>(best)];
    if (best < 0 || (chosen < needed ? size > chosen : size >= needed && size < chosen)) best = static_cast<int>(i);
  }
  if (best < 0) {
    best = static_cast<int>(bytes->size());
    bytes->push_back(0);
    free->push_back(true);
  }
  const auto at = static_cast<size_t>(best);
  (*bytes)[at] = std::max((*bytes)[at], needed);
  (*free)[at] = false;
  return best;
}

}  // namespace

TensorBlocks AssignBlocks(const std::vector<TensorUse>& steps, const std::vector<int64_t>& bytes,
                          const std::vector<bool>& kept, int32_t result) {
  TensorBlocks blocks;
  blocks.block_of.assign(bytes.size(), -1);
  std::vector<size_t> last(bytes.size(), 0);  // step that needs a tensor
  for (size_t s = 0; s < steps.size(); ++s) {
    for (const int32_t tensor : steps[s].writes) last[static_cast<size_t>(tensor)] = s;
    for (const int32_t tensor : steps[s].reads) last[static_cast<size_t>(tensor)] = s;
  }
  last[static_cast<size_t>(result)] = steps.size();
  std::vector<bool> free;
  for (size_t s = 0; s < steps.size(); ++s) {
    for (const int32_t tensor : steps[s].writes) {
      const auto t = static_cast<size_t>(tensor);
      if (!kept[t]) blocks.block_of[t] = ChooseBlock(bytes[t], &free, &blocks.bytes);
    }
    for (const auto* list : {&steps[s].reads, &steps[s].writes}) {
      for (const int32_t tensor : *list) {
        const int block = blocks.block_of[static_cast<size_t>(tensor)];
        if (block >= 0 && last[static_cast<size_t>(tensor)] == s) free[static_cast<size_t>(block)] = true;
      }
    }
  }
  return blocks;
}

}  // namespace bdd
