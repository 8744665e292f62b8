#include "support/memory.h"

namespace bdd {
namespace {

thread_local int64_t left = -1;  // bytes of the budget; -1: there is none

}  // namespace

MemoryBudget::MemoryBudget(int64_t bytes) : outermost_(left < 0) {
  if (outermost_) left = bytes;
}

MemoryBudget::~MemoryBudget() {
  if (outermost_) left = -1;
}

void* MemoryBudget::Allocate(int64_t bytes) {
  if (left >= 0) {
    if (bytes > left) return nullptr;
    left -= bytes;
  }
  return AllocateLine(static_cast<size_t>(bytes));
}

}  // namespace bdd
