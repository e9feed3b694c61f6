/* Canonical scores: float64 terms summed by halving, as _topk_canonical.py does. */
#ifndef PALATE_CANONICAL_H
#define PALATE_CANONICAL_H

#include "common.h"

/* Sum terms[0..n) in place: t[i] += t[i + half], half = P/2, ..., 1. Room for P is not needed. */
INLINE double tree_sum(double *t, int64_t n) {
    if (n == 0) return 0.0;
    int64_t half = 1;
    while (half * 2 < n) half *= 2;
    for (; n > 1; n = half, half /= 2) {
        const int64_t m = n - half;
        int64_t i = 0;
        for (; i + 4 <= m; i += 4)
            _mm256_storeu_pd(t + i, _mm256_add_pd(_mm256_loadu_pd(t + i), _mm256_loadu_pd(t + i + half)));
        for (; i < m; i++) t[i] += t[i + half];
    }
    return t[0] + 0.0;
}

/* Store the terms q*x, or (q-x)^2, of one pair. The intrinsics keep product and sum apart. */
AVX2 static void pair_terms(double *t, const float *q, const void *x, int64_t at, int64_t dim,
                            int64_t dtype, int64_t metric) {
    int64_t d = 0;
    if (dtype == FLOAT32) {
        const float *row = (const float *)x + at;
        for (; d + 4 <= dim; d += 4) {
            const __m256d a = _mm256_cvtps_pd(_mm_loadu_ps(q + d));
            const __m256d b = _mm256_cvtps_pd(_mm_loadu_ps(row + d));
            const __m256d gap = _mm256_sub_pd(a, b);
            _mm256_storeu_pd(t + d, metric == EUCLIDEAN ? _mm256_mul_pd(gap, gap) : _mm256_mul_pd(a, b));
        }
    }
    for (; d < dim; d++) {
        const double a = q[d], b = load_one(x, at + d, dtype);
        t[d] = metric == EUCLIDEAN ? (a - b) * (a - b) : a * b;
    }
}

AVX2 static float canonical(double *scratch, const float *q, const segment *s, int64_t pos,
                            int64_t metric) {
    pair_terms(scratch, q, s->vectors, pos * s->dim, s->dim, s->dtype, metric);
    double score = tree_sum(scratch, s->dim);
    if (metric == EUCLIDEAN) score = -sqrt(score);
    if (score > FLT_MAX) score = FLT_MAX;
    if (score < -FLT_MAX) score = -FLT_MAX;
    return (float)score + 0.0f;
}

/* Make rows ready: their lengths and, for unit = 1, rows of length 1 (or 0) in out. Returns the first row that
   is not finite, or -1. */
AVX2 int64_t palate_prepare_rows(const float *x, int64_t n, int64_t dim, int64_t unit, float *out,
                                 double *norms) {
    double *t = malloc(sizeof(double) * (dim + 1));
    int64_t bad = t ? -1 : -2;
    for (int64_t r = 0; t && r < n; r++) {
        const float *row = x + r * dim;
        for (int64_t d = 0; d < dim; d++) t[d] = (double)row[d] * (double)row[d];
        const double norm = sqrt(tree_sum(t, dim));
        norms[r] = norm;
        if (!isfinite(norm)) {
            bad = r;
            break;
        }
        if (!unit) continue;
        norms[r] = norm > 0.0;
        const double by = norm == 0.0 ? 0.0 : 1.0 / norm;
        for (int64_t d = 0; d < dim; d++) out[r * dim + d] = (float)((double)row[d] * by);
    }
    free(t);
    return bad;
}

#endif
