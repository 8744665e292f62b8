// x86-64: CPUID reports what the processor has, XGETBV which registers the operating system saves; a feature needs
// both. 32-bit ARM: the kernel reports NEON in the auxiliary vector. Bits as in Intel's SDM, volume 2, CPUID.
#include "kernels/cpu_features.h"

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__arm__)
#include <sys/auxv.h>
#endif

namespace bdd {

#if defined(__x86_64__)
namespace {

constexpr uint32_t Bit(int i) { return uint32_t{1} << i; }

// Leaf 1, ECX.
constexpr uint32_t kFma = Bit(12), kOsXsave = Bit(27);
// Leaf 7, EBX.
constexpr uint32_t kAvx2 = Bit(5), kAvx512F = Bit(16), kAvx512Dq = Bit(17), kAvx512Bw = Bit(30), kAvx512Vl = Bit(31);
// Leaf 7, ECX.
constexpr uint32_t kAvx512Vpopcntdq = Bit(14);
// Leaf 7, EDX.
[[maybe_unused]] constexpr uint32_t kAmxTile = Bit(24), kAmxInt8 = Bit(25);
// Leaf 0, EBX: the first four letters of "AuthenticAMD".
constexpr uint32_t kVendorAmd = 0x68747541;
// XCR0: register files that the operating system saves.
constexpr uint32_t kStateYmm = Bit(1) | Bit(2);                       // SSE, AVX
constexpr uint32_t kStateZmm = kStateYmm | Bit(5) | Bit(6) | Bit(7);  // opmask, two halves of ZMM
[[maybe_unused]] constexpr uint32_t kStateTiles = Bit(17) | Bit(18);  // TILECFG, TILEDATA

constexpr bool HasAll(uint32_t bits, uint32_t wanted) { return (bits & wanted) == wanted; }

// CPUID itself: __builtin_cpu_supports returns false in builds with some other C runtimes.
struct Cpuid {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  explicit Cpuid(unsigned leaf) { __get_cpuid_count(leaf, 0, &eax, &ebx, &ecx, &edx); }
};

uint32_t SavedState() {
  if (!HasAll(Cpuid(1).ecx, kOsXsave)) return 0;
  unsigned eax = 0, edx = 0;
  __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  return eax;
}

}  // namespace

bool HasAvx2() { return HasAll(Cpuid(1).ecx, kFma) && HasAll(SavedState(), kStateYmm) && HasAll(Cpuid(7).ebx, kAvx2); }

bool HasAvx512Bw() {
  return HasAll(SavedState(), kStateZmm) && HasAll(Cpuid(7).ebx, kAvx512F | kAvx512Dq | kAvx512Bw | kAvx512Vl);
}

bool HasAvx512Vpopcntdq() { return HasAvx512Bw() && HasAll(Cpuid(7).ecx, kAvx512Vpopcntdq); }

bool HasAmx() {
#if defined(BDD_TILES)  // emulated: needs AVX-512 only
  return HasAvx512Vpopcntdq();
#elif defined(__linux__)
  // Linux grants the tile registers, which make a thread's saved state much larger, only on request.
  constexpr long kArchReqXcompPerm = 0x1023, kTileData = 18;
  return HasAvx512Vpopcntdq() && HasAll(Cpuid(7).edx, kAmxTile | kAmxInt8) && HasAll(SavedState(), kStateTiles) &&
         syscall(SYS_arch_prctl, kArchReqXcompPerm, kTileData) == 0;
#else
  return false;
#endif
}

bool IsAmd() { return Cpuid(0).ebx == kVendorAmd; }

#elif defined(__arm__)

bool HasNeon() {
  constexpr unsigned long kHwcapNeon = 1ul << 12;
  return (getauxval(AT_HWCAP) & kHwcapNeon) != 0;
}

#endif

}  // namespace bdd
