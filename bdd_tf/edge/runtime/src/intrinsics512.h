// The intrinsics of AVX-512 and AMX.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12's own header passes deliberately undefined registers on.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>
