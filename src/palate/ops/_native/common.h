/* Shared structures of the top-k kernel. Field order and types mirror _topk_library.py. */
#ifndef PALATE_COMMON_H
#define PALATE_COMMON_H

#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2,fma,f16c")))
#define INLINE static inline __attribute__((always_inline)) AVX2
#define NORM_BLOCK 1024 /* rows that share one norm bound */
#define COUNTER_GAP 8   /* counters lie a cache line apart */

enum { DOT = 0, EUCLIDEAN = 1 };
enum { FLOAT32 = 0, FLOAT16 = 1, BFLOAT16 = 2 };

/* An item that may enter a query's list. Its screened score lies within [lo, hi]. */
typedef struct {
    float hi, lo;
    float score;   /* canonical, once pos is -1 */
    int32_t pos;   /* row in the segment while the canonical score is not known */
    int64_t code;
} entry;

typedef struct {
    const void *vectors; /* (n, dim) */
    const int64_t *codes; /* (n,) or NULL for start, start + 1, ... */
    const double *norms; /* a block: largest row norm */
    const float *bias;   /* (n,) -|x|^2 / 2 for euclidean, or NULL */
    const int8_t *codes8; /* (n, stride8) or NULL */
    const float *scales; /* (n,) */
    const double *rho;   /* a block: largest |residual| / scale */
    int64_t n, dim, start, stride8, dtype;
} segment;

typedef struct {
    const float *queries; /* (n_queries, dim) */
    const double *norms;  /* (n_queries,) */
    const double *squares; /* (n_queries,) */
    const int16_t *codes16; /* (n_queries, stride8) or NULL */
    const float *scales16;
    const double *errors16; /* |q - scale * code| */
    const int64_t *excluded_ptr; /* (n_queries + 1,) or NULL */
    const int64_t *excluded;
    const uint8_t *allowed; /* (n_items,) 0 for items that no query may get, or NULL */
    float *shared; /* (n_queries,) the best lower bound that any worker has published */
    int64_t *next; /* (n_workers,) how many blocks of each worker's share are taken */
    int64_t n_queries, k, capacity, metric, settle, block, n_workers;
} job;

typedef struct {
    entry *entries; /* (n_queries, capacity) */
    int64_t *counts;
    float *floor; /* (n_queries,) the k-th largest lo so far */
    float *cut;   /* scratch: what a screened score must exceed in this block */
    float *error; /* scratch: its error bound */
    float *margin; /* scratch: how far the cut lies below the floor */
    double *scratch; /* (dim + 1,) */
    int64_t index;   /* whose share of the items it takes first */
    int64_t went_back; /* whether it took items before those it had seen */
} worker;

INLINE float load_one(const void *x, int64_t i, int64_t dtype) {
    if (dtype == FLOAT32) return ((const float *)x)[i];
    if (dtype == FLOAT16) return _cvtsh_ss(((const uint16_t *)x)[i]);
    union { uint32_t u; float f; } bits = {(uint32_t)((const uint16_t *)x)[i] << 16};
    return bits.f;
}

INLINE __m256 load_eight(const void *x, int64_t i, const int dtype) {
    if (dtype == FLOAT32) return _mm256_loadu_ps((const float *)x + i);
    const __m128i half = _mm_loadu_si128((const __m128i *)((const uint16_t *)x + i));
    if (dtype == FLOAT16) return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

/* A float below x by at least one rounding step. */
INLINE float step_down(float x) { return x - fabsf(x) * 2.4e-7f - 1e-37f; }

#endif
