// Assigns memory to stored tensors. Tensors share memory if no level needs both: first fit, largest first.
#include "graph/graph_internal.h"

namespace bdd {
namespace {

// Rounded up to cache lines.
int64_t BytesOf(const Tensor& t) {
  const int64_t element = t.is_int16() ? 2 : SizeOf(t.value.type);
  const int64_t count =
      t.blocked ? Times(t.value.shape.Product(0, 3), t.blocks * kTileChannels) : t.value.shape.Elements();
  const int64_t size = Times(count, element);
  return size < 0 ? kMaxBytes + 64 : (size + 63) / 64 * 64;  // too large: refused by PlanMemory
}

// The first offset at which `tensor` fits between the tensors that are needed at the same time.
int64_t FirstFit(const Tensor& tensor, const std::vector<Tensor*>& placed) {
  std::vector<const Tensor*> others;
  for (const Tensor* other : placed) {
    if (other->first_level <= tensor.last_level && tensor.first_level <= other->last_level) others.push_back(other);
  }
  std::sort(others.begin(), others.end(), [](const Tensor* a, const Tensor* b) { return a->offset < b->offset; });
  int64_t offset = 0;
  for (const Tensor* other : others) {
    if (offset + BytesOf(tensor) <= other->offset) break;
    offset = std::max(offset, other->offset + BytesOf(*other));
  }
  return offset;
}

}  // namespace

bool PlanMemory(GraphData* graph, Message* why) {
  for (const auto& tensor : graph->tensors) {
    if (!tensor->stored || tensor->parent < 0) continue;
    Tensor& parent = graph->tensor(tensor->parent);
    parent.stored |= !parent.external;
  }
  std::vector<Tensor*> stored, placed;
  for (const auto& tensor : graph->tensors) {
    if (tensor->stored && tensor->parent < 0) stored.push_back(tensor.get());
  }
  std::stable_sort(stored.begin(), stored.end(),
                   [](const Tensor* a, const Tensor* b) { return BytesOf(*a) > BytesOf(*b); });
  int64_t total = 0;
  for (Tensor* tensor : stored) {
    tensor->offset = FirstFit(*tensor, placed);
    total = std::max(total, tensor->offset + BytesOf(*tensor));
    placed.push_back(tensor);
  }
  if (total > kMaxBytes || !graph->memory.Reset(total) ||
      !graph->scratch.Reset(Times(graph->worker_scratch, graph->pool.threads()))) {
    return why->Set("no memory for %lld bytes of maps", static_cast<long long>(total));
  }
  return true;
}

}  // namespace bdd
