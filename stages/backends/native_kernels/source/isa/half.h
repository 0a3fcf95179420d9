// A part of 32 channels in AVX2's registers, for `depthwise3.h`; the instruction set's `Half` has the product.
#pragma once

namespace {

struct Part : Half {
    static constexpr int CHANNELS = 32;
    struct Bounds {
        Register zero_point, low, high;
        Bounds(int zero, int least, int greatest)
            : zero_point(_mm256_set1_epi16(int16_t(zero))), low(_mm256_set1_epi8(int8_t(least))), high(_mm256_set1_epi8(int8_t(greatest))) {}
    };
    static Register load(const void *p) { return _mm256_loadu_si256(static_cast<const Register *>(p)); }
    static Register zero() { return _mm256_setzero_si256(); }
    static Register low8(Register a, Register b) { return _mm256_unpacklo_epi8(a, b); }
    static Register high8(Register a, Register b) { return _mm256_unpackhi_epi8(a, b); }
    static Register low16(Register a, Register b) { return _mm256_unpacklo_epi16(a, b); }
    static Register high16(Register a, Register b) { return _mm256_unpackhi_epi16(a, b); }
    static Register scaled(Register x, const float *ratio) {
        return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(x), _mm256_loadu_ps(ratio)));
    }
    static void store(uint8_t *out, const Bounds &bounds, const Register *x, int vectors) {
        const Register a = _mm256_adds_epi16(_mm256_packs_epi32(x[0], x[1]), bounds.zero_point);
        const Register b = _mm256_adds_epi16(_mm256_packs_epi32(x[2], x[3]), bounds.zero_point);
        const Register levels = _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(a, b), bounds.low), bounds.high);
        if (vectors >= 2) return _mm256_storeu_si256(reinterpret_cast<Register *>(out), levels);
        _mm_storeu_si128(reinterpret_cast<__m128i *>(out), _mm256_castsi256_si128(levels));
    }
};

}  // namespace
