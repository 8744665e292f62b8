// Which instruction sets this processor and its operating system support.
#pragma once

namespace bdd {

#if defined(__x86_64__)
bool HasAvx2();      // and FMA
bool HasAvx512Bw();  // F, BW, DQ and VL
bool HasAvx512Vpopcntdq();
bool HasAmx();  // asks the kernel for permission to use the tile registers
bool IsAmd();
#elif defined(__arm__)
bool HasNeon();
#endif

}  // namespace bdd
