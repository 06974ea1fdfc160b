/* fft.h - transforms of rows of 2^k points, pairs of floats, in working memory of the GPU plugins (kernels/fft.k,
 * ops_fft.c): bins stand in bit-reversed order. What a row becomes depends on its numbers and n alone, not on how many rows
 * there are. */
#ifndef STRAND_GPU_FFT_H
#define STRAND_GPU_FFT_H

#include "gpu.h"

#define GPU_FFT_BUDGET ((int64_t)1 << 25) /* bytes of points worked on at a time, if rows are not longer than that */

/* The spectra that rows are multiplied with: row r takes number r modulo `rows`, plus its skip (a number, if there are any). */
typedef struct gpu_fft_spectra {
    const strand_plugin_memory *memory;
    uint64_t at;
    int64_t rows;
    const strand_plugin_tensor *skip; /* NULL: none */
    int64_t skip_first;               /* of its elements: that of spectrum 0 */
} gpu_fft_spectra;

/* The rows of a long convolution: of channels from `channel` on, of batch entries from `entry` on. The first step reads u
 * (times pre), the last one writes y (times post). */
typedef struct gpu_fft_ends {
    const strand_plugin_tensor *u, *pre, *post, *y; /* pre, post: NULL if absent */
    int64_t channel, channels, entry, entries, inner, length;
} gpu_fft_ends;

/* spectra: in the order in which gpu_fft_convolve takes them, bit-reversed else. */
strand_plugin_status gpu_fft_forward(strand_plugin_device *device, const strand_plugin_memory *m, uint64_t at, int64_t rows,
                                     int64_t n, bool spectra);
/* Forward, times the spectra, and backward, in natural order again: with ends their convolution, without n times too large. */
strand_plugin_status gpu_fft_convolve(strand_plugin_device *device, const strand_plugin_memory *m, uint64_t at, int64_t rows,
                                      int64_t n, const gpu_fft_spectra *h, const gpu_fft_ends *ends);

/* Bytes of `rows` rows of points, or of as many as are worked on at a time. */
static inline int64_t gpu_fft_bytes(int64_t rows, int64_t n) {
    int64_t most = GPU_FFT_BUDGET / (8 * n);
    return most < 1 ? 8 * n : rows < most ? rows * 8 * n : GPU_FFT_BUDGET;
}

#endif
