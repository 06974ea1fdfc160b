/* peers.h - other libraries on the same data: loaded while running when they are installed, so that nothing depends on them.
 *
 *   OpenBLAS  STRAND_BENCH_OPENBLAS or libopenblas.so.0. It picks its kernels by OPENBLAS_CORETYPE when it is loaded; its
 *   rows say
 *             which it took (a release that does not know a processor takes slower ones).
 *   FFTW      STRAND_BENCH_FFTW or libfftw3f.so.3: a plan for one channel, measured, run over all channels; spectra made
 *   before. A plan
 *             is measured for at most STRAND_BENCH_FFTW_SECONDS (4; a million points want some 60).
 *   ggml      STRAND_BENCH_GGML or libggml-cpu.so (built with shared libraries, with libggml-base.so beside it), or
 *             libggml-vulkan.so, for plugins with memory of their own: its first device.
 *
 * bench_run asks bench_peers_add for every case; a case's own peers stay. What a peer computed is compared with the plugin's
 * result, so that both are known to have done the same work. */
#ifndef STRAND_TESTS_BENCH_PEERS_H
#define STRAND_TESTS_BENCH_PEERS_H

#include "bench.h"

/* Adds every installed peer that has the case's operator as it is given. */
void bench_peers_add(bench *b, bench_case *c);

/* peers_ggml.c */
void bench_peers_ggml(bench *b, bench_case *c);

/* A loaded library: the first that can be opened of the path in the environment and the default names; NULL. */
void *bench_library(const char *variable, const char *const *names);
/* dlsym into a function pointer; false when it is not there. */
bool bench_symbol(void *library, const char *name, void *pointer);

#endif
