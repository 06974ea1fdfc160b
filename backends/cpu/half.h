/* half.h - F16 and BF16 as bits, without the compiler's half types (gcc 12 and clang 14 disagree about them). Exact both ways
 * up to rounding to nearest even; NaN stays NaN. The loops that use these are vectorised by the compiler. */
#ifndef STRAND_CPU_HALF_H
#define STRAND_CPU_HALF_H

#include <stdint.h>
#include <string.h>

static inline float cpu_from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static inline uint32_t cpu_to_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

static inline float cpu_bf16_to_f32(uint16_t h) {
    return cpu_from_bits((uint32_t)h << 16);
}

static inline uint16_t cpu_f32_to_bf16(float f) {
    uint32_t x = cpu_to_bits(f);
    uint32_t rounded = (x + 0x7fffu + (x >> 16 & 1u)) >> 16;
    return (uint16_t)((x & 0x7fffffffu) > 0x7f800000u ? (x >> 16 | 0x40u) : rounded);
}

/* The exponent is moved by a multiplication, which also puts denormals right. */
static inline float cpu_f16_to_f32(uint16_t h) {
    uint32_t magnitude = (uint32_t)(h & 0x7fffu) << 13;
    uint32_t bits = cpu_to_bits(cpu_from_bits(magnitude) * 0x1p112f);
    uint32_t special = magnitude | 0x70000000u; /* infinity and NaN keep their mantissa */
    bits = magnitude >= 0x0f800000u ? special : bits;
    return cpu_from_bits(bits | (uint32_t)(h & 0x8000u) << 16);
}

static inline uint16_t cpu_f32_to_f16(float f) {
    uint32_t x = cpu_to_bits(f), sign = x >> 16 & 0x8000u, magnitude = x & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and more */
    if (magnitude < 0x38800000u) {
        /* below 2^-14: adding 1/2 leaves the rounded multiple of 2^-24 in the low bits */
        return (uint16_t)(sign | (cpu_to_bits(cpu_from_bits(magnitude) + 0.5f) - 0x3f000000u));
    }
    return (uint16_t)(sign | ((magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13));
}

#endif
