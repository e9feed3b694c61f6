/* One query, or a few: the catalogue is read once, at the speed of memory. */
#ifndef PALATE_ROWS_H
#define PALATE_ROWS_H

#include "candidates.h"

#define AHEAD 1024 /* bytes */
#define CACHED (48 << 20) /* bytes of a catalogue that a shared cache may hold: look further ahead */

/* Sum each of eight vectors into one lane. */
INLINE __m256 sum_lanes(const __m256 c[8]) {
    const __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(c[0], c[1]), _mm256_hadd_ps(c[2], c[3]));
    const __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(c[4], c[5]), _mm256_hadd_ps(c[6], c[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

INLINE __m256i sum_lanes_int(const __m256i c[8]) {
    const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(c[0], c[1]), _mm256_hadd_epi32(c[2], c[3]));
    const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(c[4], c[5]), _mm256_hadd_epi32(c[6], c[7]));
    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                            _mm256_permute2x128_si256(a, b, 0x31));
}

/* Products of a query with the rows row[0..8) of the segment. Float32 rows are read one after the
   other, which memory likes best; 16-bit rows side by side, since converting them is the longer
   part. */
INLINE __m256 eight_rows(const float *q, const segment *s, const int dtype, const int64_t row[8],
                         const int64_t far) {
    const int64_t dim = s->dim, width = dtype == FLOAT32 ? 4 : 2, whole = dim / 8 * 8, d = whole;
    const char *ahead = (const char *)s->vectors + row[0] * dim * width;
    __m256 c[8];
    for (int i = 0; i < 8; i++) c[i] = _mm256_setzero_ps();
    if (dtype == FLOAT32) {
        for (int i = 0; i < 8; i++) {
            const float *x = (const float *)s->vectors + row[i] * dim;
            for (int64_t e = 0; e < whole; e += 8) {
                if (e % 16 == 0) _mm_prefetch((const char *)(x + e) + far, _MM_HINT_T0);
                c[i] = _mm256_fmadd_ps(_mm256_loadu_ps(q + e), _mm256_loadu_ps(x + e), c[i]);
            }
        }
    } else {
        for (int64_t e = 0; e < whole; e += 8) {
            const __m256 v = _mm256_loadu_ps(q + e);
            for (int i = 0; i < width; i++)
                _mm_prefetch(ahead + AHEAD + 8 * e * width + 64 * i, _MM_HINT_T0);
            for (int i = 0; i < 8; i++)
                c[i] = _mm256_fmadd_ps(v, load_eight(s->vectors, row[i] * dim + e, dtype), c[i]);
        }
    }
    __m256 sum = sum_lanes(c);
    if (d < dim) {
        float tail[8];
        for (int i = 0; i < 8; i++) {
            tail[i] = 0.0f;
            for (int64_t e = d; e < dim; e++) tail[i] += q[e] * load_one(s->vectors, row[i] * dim + e, dtype);
        }
        sum = _mm256_add_ps(sum, _mm256_loadu_ps(tail));
    }
    return sum;
}

INLINE void take_rows(worker *w, const job *j, const segment *s, int64_t q, int64_t pos, int n,
                      __m256 score, __m256 error) {
    float lo[8], hi[8];
    _mm256_storeu_ps(lo, _mm256_sub_ps(score, error));
    _mm256_storeu_ps(hi, _mm256_add_ps(score, error));
    for (int i = 0; i < n; i++)
        if (hi[i] > w->cut[q]) push(w, j, s, q, pos + i, lo[i], hi[i]);
}

/* Whether any upper bound exceeds the cut. */
INLINE int any_over(__m256 hi, float cut) {
    const __m256 over = _mm256_cmp_ps(hi, _mm256_set1_ps(cut), _CMP_GT_OQ);
    return !_mm256_testz_ps(over, over);
}

INLINE void scan_rows_block(worker *w, const job *j, const segment *s, const int dtype, int64_t at,
                            int64_t end, int64_t q) {
    const __m256 error = _mm256_set1_ps(w->error[q]);
    const int64_t far = s->n * s->dim * 4 < CACHED ? 8 * AHEAD : 2 * AHEAD;
    for (int64_t pos = at; pos < end; pos += 8) {
        const int n = end - pos < 8 ? (int)(end - pos) : 8;
        int64_t row[8];
        for (int i = 0; i < 8; i++) row[i] = pos + (i < n ? i : n - 1);
        __m256 score = eight_rows(j->queries + q * s->dim, s, dtype, row, far);
        if (s->bias) {
            float bias[8];
            for (int i = 0; i < 8; i++) bias[i] = s->bias[row[i]];
            score = _mm256_add_ps(score, _mm256_loadu_ps(bias));
        }
        if (any_over(_mm256_add_ps(score, error), w->cut[q]))
            take_rows(w, j, s, q, pos, n, score, error);
    }
}

INLINE int scan_rows(worker *w, const job *j, const segment *s, const int dtype) {
    int64_t at, turn = 0;
    while ((at = take_block(w, j, s, &turn)) < s->n) {
        const int64_t end = s->n - at < j->block ? s->n : at + j->block;
        set_cuts(w, j, s->dim, s->norms[at / NORM_BLOCK], 1, NULL);
        for (int64_t q = 0; q < j->n_queries; q++) scan_rows_block(w, j, s, dtype, at, end, q);
    }
    return 0;
}

/* The same over int8 codes. With x = a (x8 + r), |r| <= rho in total, and q = b q16 + t:
   q.x = a b q16.x8 + a q.r + t.(a x8), so a product errs by at most a |q| rho + |t| (|x| + a rho). */
INLINE void scan_codes_block(worker *w, const job *j, const segment *s, int64_t at, int64_t end,
                             int64_t q) {
    const double x = s->norms[at / NORM_BLOCK], rho = s->rho[at / NORM_BLOCK] * (1 + 1e-6);
    const double y = j->norms[q] * (1 + 1e-6);
    const __m256 slope = _mm256_set1_ps((float)((y + j->errors16[q]) * rho * (1 + 1e-6)));
    const __m256 rest = _mm256_set1_ps(
        (float)(w->error[q] + j->errors16[q] * x * 1.001 + 0x1p-20 * (y * x + (s->bias ? x * x : 0))));
    const __m256 unit = _mm256_set1_ps(j->scales16[q]);
    const int16_t *q16 = j->codes16 + q * s->stride8;
    for (int64_t pos = at; pos < end; pos += 8) {
        const int n = end - pos < 8 ? (int)(end - pos) : 8;
        const int8_t *row[8];
        for (int i = 0; i < 8; i++) row[i] = s->codes8 + (pos + (i < n ? i : n - 1)) * s->stride8;
        __m256i c[8];
        for (int i = 0; i < 8; i++) c[i] = _mm256_setzero_si256();
        for (int64_t d = 0; d < s->stride8; d += 16) {
            const __m256i v = _mm256_loadu_si256((const __m256i *)(q16 + d));
            _mm_prefetch((const char *)row[0] + 8 * d + 2 * AHEAD, _MM_HINT_T0);
            _mm_prefetch((const char *)row[0] + 8 * d + 2 * AHEAD + 64, _MM_HINT_T0);
            for (int i = 0; i < 8; i++) {
                const __m256i z = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(row[i] + d)));
                c[i] = _mm256_add_epi32(c[i], _mm256_madd_epi16(v, z));
            }
        }
        float scales[8], bias[8];
        for (int i = 0; i < 8 && (n < 8 || s->bias); i++) {
            scales[i] = i < n ? s->scales[pos + i] : 0.0f;
            bias[i] = s->bias && i < n ? s->bias[pos + i] : 0.0f;
        }
        const __m256 a = _mm256_loadu_ps(n < 8 ? scales : s->scales + pos);
        const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(sum_lanes_int(c)), unit);
        const __m256 error = _mm256_fmadd_ps(a, slope, rest);
        __m256 score = _mm256_mul_ps(a, product);
        if (s->bias) score = _mm256_add_ps(score, _mm256_loadu_ps(bias));
        if (any_over(_mm256_add_ps(score, error), w->cut[q]))
            take_rows(w, j, s, q, pos, n, score, error);
    }
}

AVX2 static int scan_codes(worker *w, const job *j, const segment *s) {
    int64_t at, turn = 0;
    while ((at = take_block(w, j, s, &turn)) < s->n) {
        const int64_t end = s->n - at < j->block ? s->n : at + j->block;
        set_cuts(w, j, s->dim, s->norms[at / NORM_BLOCK], 1, NULL);
        for (int64_t q = 0; q < j->n_queries; q++) scan_codes_block(w, j, s, at, end, q);
    }
    return 0;
}

#endif
