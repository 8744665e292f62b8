// The intrinsics of AVX-512 and AMX, without the warnings that their header causes in GCC.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
// The header of GCC 12 uses undefined registers on purpose.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>
