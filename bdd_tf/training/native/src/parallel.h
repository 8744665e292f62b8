// Loops over the threads of a pool, each with a context of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "support/threads.h"

namespace bdd {

// A context for each thread of a pool.
template <typename Context>
using Contexts = std::vector<std::unique_ptr<Context>>;

// Calls f(item, context) for all items. Each context processes a fixed range of them, so that sums do not depend on
// which thread runs first.
template <typename Context, typename F>
void ForItems(ThreadPool* pool, const Contexts<Context>& contexts, int items, const F& f) {
  struct Call {
    const F* f;
    const Contexts<Context>* contexts;
    int items;
  } call{&f, &contexts, items};
  pool->Run(
      static_cast<int64_t>(contexts.size()),
      [](void* argument, int64_t index, int) {
        const Call& c = *static_cast<const Call*>(argument);
        const int64_t count = static_cast<int64_t>(c.contexts->size());
        const int from = static_cast<int>(index * c.items / count);
        const int to = static_cast<int>((index + 1) * c.items / count);
        for (int i = from; i < to; ++i) (*c.f)(i, *(*c.contexts)[static_cast<size_t>(index)]);
      },
      &call);
}

}  // namespace bdd
