// SPDX-License-Identifier: Apache-2.0
/* kernels_base: kernels_simd.inc in vectors of 4 floats, for any CPU. */
#include "worker/math/kernels_level.h"

#define LEVEL base
#define LEVEL_NAME "base"
#define TARGET
#define VW 4
#define TILE 2
/* by masks: a vector `?:` is C++ only; a NaN in `a` gives b, as the x86 instructions do */
#define PICK(m, a, b) ((vf)(((m) & (vi)(a)) | (~(m) & (vi)(b))))
#define VMAX(a, b) PICK((a) > (b), (a), (b))
#define VMIN(a, b) PICK((a) < (b), (a), (b))
#include "worker/math/kernels_simd.inc"
