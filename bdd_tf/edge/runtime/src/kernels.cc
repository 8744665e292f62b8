#include "kernels.h"

#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__linux__) && defined(__arm__)
#include <sys/auxv.h>
#endif

namespace bdd {
namespace {

#if defined(__x86_64__)
// CPUID itself: __builtin_cpu_supports answers no in builds with some other C runtimes.
struct Cpuid {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  explicit Cpuid(unsigned leaf) { __get_cpuid_count(leaf, 0, &eax, &ebx, &ecx, &edx); }
};

// Which registers the operating system saves, as XGETBV tells.
unsigned SavedState() {
  if ((Cpuid(1).ecx & (1u << 27)) == 0) return 0;  // OSXSAVE
  unsigned eax = 0, edx = 0;
  __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  return eax;
}

bool HasAvx2() {
  const bool fused = (Cpuid(1).ecx & (1u << 12)) != 0;  // multiplication and addition
  return fused && (SavedState() & 0x6) == 0x6 && (Cpuid(7).ebx & (1u << 5)) != 0;
}

bool HasAvx512Bw() {
  const unsigned wanted = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31);  // F, DQ, BW, VL
  return (SavedState() & 0xE6) == 0xE6 && (Cpuid(7).ebx & wanted) == wanted;
}

bool HasAvx512() { return HasAvx512Bw() && (Cpuid(7).ecx & (1u << 14)) != 0; }  // VPOPCNTDQ

bool IsAmd() { return Cpuid(0).ebx == 0x68747541; }  // "Auth"enticAMD

// Matrix registers are large: Linux gives them to processes that ask.
bool HasAmx() {
#if defined(BDD_TILES)
  return HasAvx512();
#elif defined(__linux__)
  constexpr unsigned kTiles = 1u << 24, kBytes = 1u << 25, kSaved = 3u << 17;
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  const unsigned wanted = kTiles | kBytes;
  if (!HasAvx512() || (Cpuid(7).edx & wanted) != wanted || (SavedState() & kSaved) != kSaved) return false;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#else
  return false;
#endif
}
#endif

struct Available {
  const KernelSet* sets[7];
  int count = 0;

  Available() {
#if defined(__x86_64__)
    if (HasAvx512()) {
      sets[count++] = Avx512Kernels();
      sets[count++] = Avx512ParityKernels();
      if (IsAmd()) std::swap(sets[0], sets[1]);
    }
    if (HasAmx()) sets[count++] = AmxKernels();  // never the first: nobody has timed it yet
    if (HasAvx512Bw()) sets[count++] = Avx512BwKernels();
    if (HasAvx2()) sets[count++] = Avx2Kernels();
#elif defined(__aarch64__)
    sets[count++] = NeonKernels();
#elif defined(__arm__)
    if ((getauxval(AT_HWCAP) & (1u << 12)) != 0) sets[count++] = NeonKernels();
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
