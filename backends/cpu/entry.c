/* entry.c - the plugin's one exported symbol and its score.
 *
 * Always compiled for the plainest processor of the architecture, whatever the rest of the module is compiled for, because it
 * runs before anyone knows what this processor can do. It therefore touches nothing of the other files but the addresses of
 * their tables. An instruction set counts as present when CPUID lists it *and* XGETBV says that the operating system saves
 * its registers; asking CPUID alone ends in SIGILL under old kernels and some hypervisors. */
#include "cpu.h"

#include <string.h>

/* CPU_LEVEL: 1 plain, 3 x86-64-v3, 4 x86-64-v4. */
#ifndef CPU_LEVEL
#define CPU_LEVEL 1
#endif
#ifdef CPU_REFERENCE
#define CPU_NAME        "cpu-reference"
#define CPU_DESCRIPTION "plain loops in double precision, the judge of the other kernels"
#else
#define CPU_NAME        "cpu"
#define CPU_DESCRIPTION "this machine's processor"
#endif

static void put(char *why, size_t why_bytes, const char *text) {
    if (!why || !why_bytes) return;
    size_t n = strlen(text);
    if (n >= why_bytes) n = why_bytes - 1;
    memcpy(why, text, n);
    why[n] = 0;
}

#if CPU_LEVEL > 1
#include <cpuid.h>

static uint64_t enabled_registers(void) {
    uint32_t low, high;
    __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(low), "=d"(high) : "c"(0)); /* xgetbv, for old assemblers */
    return (uint64_t)high << 32 | low;
}

static bool all(uint32_t value, uint32_t bits) {
    return (value & bits) == bits;
}

/* What is missing for CPU_LEVEL, or NULL. */
static const char *missing(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !all(c, bit_OSXSAVE | bit_AVX)) return "the processor or the system has no AVX";
    uint64_t saved = enabled_registers();
    if ((saved & 6) != 6) return "the operating system does not save the AVX registers";
    if (!all(c, bit_FMA | bit_F16C | bit_MOVBE | bit_POPCNT | bit_SSE4_2)) return "the processor has no FMA, F16C or MOVBE";
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !all(b, bit_AVX2 | bit_BMI | bit_BMI2)) {
        return "the processor has no AVX2 or BMI";
    }
#if CPU_LEVEL >= 4
    if (!all(b, bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL)) return "the processor has no AVX-512";
    if ((saved & 0xe6) != 0xe6) return "the operating system does not save the AVX-512 registers";
#endif
    if (!__get_cpuid(0x80000001u, &a, &b, &c, &d) || !all(c, bit_ABM)) return "the processor has no LZCNT";
    return NULL;
}
#endif

static int32_t score(const strand_host *host, char *why, size_t why_bytes) {
#if CPU_LEVEL > 1
    /* x86-64-v4 contains v3: hiding the smaller hides the larger. */
    uint32_t hides = CPU_LEVEL >= 4 ? 3u : 1u;
    if (host->cpu_mask & hides) {
        put(why, why_bytes, "hidden by the mask of processor features");
        return 0;
    }
    const char *lack = missing();
    if (lack) {
        put(why, why_bytes, lack);
        return 0;
    }
#else
    (void)host;
#endif
    put(why, why_bytes, "");
    return CPU_LEVEL;
}

strand_plugin_status STRAND_PLUGIN_ENTRY_NAME(const strand_host *host, strand_plugin *plugin);

STRAND_PLUGIN_EXPORT strand_plugin_status STRAND_PLUGIN_ENTRY_NAME(const strand_host *host, strand_plugin *plugin) {
    strand_plugin mine = {
        .magic = STRAND_PLUGIN_MAGIC,
        .size = sizeof mine,
        .abi_major = STRAND_PLUGIN_ABI_MAJOR,
        .abi_minor = STRAND_PLUGIN_ABI_MINOR,
        .layout_hash = strand_plugin_layout_hash(),
        .layout = strand_plugin_layout(),
        .n_layout = STRAND_PLUGIN_N_LAYOUT,
        .ops = cpu_ops,
        .name = CPU_NAME,
        .version = "0.1.0",
        .description = CPU_DESCRIPTION,
        .score = score,
        .api = &cpu_api,
    };
    (void)host;
    mine.n_ops = cpu_table_size;
    mine.capacity = plugin->capacity;
    memcpy(plugin, &mine, plugin->capacity < sizeof mine ? plugin->capacity : sizeof mine);
    return STRAND_PLUGIN_OK;
}
