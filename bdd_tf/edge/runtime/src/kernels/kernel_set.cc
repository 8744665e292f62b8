// The list of kernel sets that this machine can run, made once and ordered by speed.
#include "kernels/kernel_set.h"

#include <cstring>

#include "kernels/cpu_features.h"

namespace bdd {
namespace {

struct Available {
  const KernelSet* sets[7];
  int count = 0;

  Available() {
#if defined(__x86_64__)
    if (HasAvx512Vpopcntdq()) {
      // Each is the faster one on its vendor's processors.
      sets[count++] = IsAmd() ? Avx512VpopcntdqParityKernels() : Avx512VpopcntdqKernels();
      sets[count++] = IsAmd() ? Avx512VpopcntdqKernels() : Avx512VpopcntdqParityKernels();
    }
    if (HasAmx()) sets[count++] = AmxKernels();  // never first: it has not been timed on hardware
    if (HasAvx512Bw()) sets[count++] = Avx512BwKernels();
    if (HasAvx2()) sets[count++] = Avx2Kernels();
#elif defined(__aarch64__)
    sets[count++] = NeonKernels();
#elif defined(__arm__)
    if (HasNeon()) sets[count++] = NeonKernels();
#elif defined(__wasm_simd128__)
    sets[count++] = WasmKernels();
#endif
    sets[count++] = ScalarKernels();
  }
};

}  // namespace

const KernelSet* const* AvailableKernels(int* count) {
  static const Available available;
  *count = available.count;
  return available.sets;
}

const KernelSet* FindKernels(const char* name) {
  int count = 0;
  const KernelSet* const* sets = AvailableKernels(&count);
  if (name == nullptr || name[0] == '\0' || std::strcmp(name, "auto") == 0) return sets[0];
  for (int i = 0; i < count; ++i) {
    if (std::strcmp(sets[i]->name, name) == 0) return sets[i];
  }
  return nullptr;
}

}  // namespace bdd
