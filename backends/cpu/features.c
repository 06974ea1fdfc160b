/* features.c - instructions beyond the level that this module is compiled for, asked for once when the plugin is opened.
 *
 * Kernels that use them carry the target attributes of cpu.h and stand beside a kernel that does not; which one runs is decided
 * by device->features, never by what the compiler was told. The entry has already seen that the system saves the registers of
 * the module's level. A plainer module, whose vectors are narrower, asks for nothing. */
#include "cpu.h"

#if defined(__AVX512F__)
#include <cpuid.h>

uint32_t cpu_features(const strand_host *host) {
    uint32_t a = 0, b, c, d, features = 0;
    if (host->cpu_mask & CPU_HIDES_EXTENSIONS) return 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && c & 1u << 11) features |= CPU_AVX512_VNNI;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && a & 1u << 5) features |= CPU_AVX512_BF16;
    return features;
}
#else
uint32_t cpu_features(const strand_host *host) {
    (void)host;
    return 0;
}
#endif
