/* An int8 copy of the catalogue, with what bounds its error. */
#ifndef PALATE_QUANTIZE_H
#define PALATE_QUANTIZE_H

#include "common.h"

/* The largest magnitude of a row. */
INLINE float largest(const float *row, int64_t dim) {
    float peak = 0.0f;
    for (int64_t d = 0; d < dim; d++) peak = fabsf(row[d]) > peak ? fabsf(row[d]) : peak;
    return peak;
}

/* Write x8 = round(x / a) with a = max|x| / 127 a row, and per block the largest |x / a - x8|. */
AVX2 void palate_quantize(const float *x, int64_t n, int64_t dim, int64_t stride, int8_t *codes,
                          float *scales, double *rho) {
    for (int64_t r = 0; r < n; r++) {
        const float *row = x + r * dim;
        int8_t *out = codes + r * stride;
        const float peak = largest(row, dim);
        /* A row too small to divide gets codes of 0: its residual is then the row itself. */
        const float scale = peak / 127.0f > 1e-30f ? peak / 127.0f : 1e-30f;
        double square = 0.0;
        for (int64_t d = 0; d < dim; d++) {
            const double ratio = (double)row[d] / (double)scale;
            double code = nearbyint(ratio);
            code = code > 127 ? 127 : code < -127 ? -127 : code;
            out[d] = (int8_t)code;
            square += (ratio - code) * (ratio - code);
        }
        memset(out + dim, 0, stride - dim);
        scales[r] = scale;
        const double length = sqrt(square) * (1 + 1e-9);
        if (r % NORM_BLOCK == 0 || length > rho[r / NORM_BLOCK]) rho[r / NORM_BLOCK] = length;
    }
}

/* Round queries to int16 of at most `limit`, a size at which sums of products fit 32 bits; error is
   the length of query - scale * code, rounded up. Rows of codes start as zeros. */
AVX2 void palate_query_codes(const float *x, int64_t n, int64_t dim, int64_t stride, int64_t limit,
                             int16_t *codes, float *scales, double *errors) {
    for (int64_t r = 0; r < n; r++) {
        const float *row = x + r * dim;
        const float peak = largest(row, dim);
        const float scale = peak / (float)limit > 1e-30f ? peak / (float)limit : 1e-30f;
        double square = 0.0;
        for (int64_t d = 0; d < dim; d++) {
            double code = nearbyint((double)row[d] / (double)scale);
            code = code > limit ? limit : code < -limit ? -limit : code;
            codes[r * stride + d] = (int16_t)code;
            const double gap = (double)row[d] - code * (double)scale;
            square += gap * gap;
        }
        scales[r] = scale;
        errors[r] = sqrt(square) * (1 + 1e-9);
    }
}

#endif
