// gpu_floors.cu - what an NVIDIA GPU can do at most, for the floors that benchmarks are judged by (gpu_floors.c): multiply-adds
// in F32, exponentials of the special unit, and BF16 products by mma.sync, each as independent chains in registers.
extern "C" __global__ void __launch_bounds__(256) floor_fma(float *out, int n) {
    float x[8], a = 1.0f + 1e-6f * threadIdx.x, b = 1e-7f * blockIdx.x;
    for (int i = 0; i < 8; i++) x[i] = a + i;
    for (int t = 0; t < n; t++)
#pragma unroll
        for (int i = 0; i < 8; i++) x[i] = __fmaf_rn(x[i], a, b);
    float sum = 0;
    for (int i = 0; i < 8; i++) sum += x[i];
    if (sum == 12345.0f) out[0] = sum; // never, which the compiler does not know
}

extern "C" __global__ void __launch_bounds__(256) floor_exp(float *out, int n) {
    float x[8];
    for (int i = 0; i < 8; i++) x[i] = -1e-3f * (threadIdx.x + i + blockIdx.x);
    for (int t = 0; t < n; t++)
#pragma unroll
        for (int i = 0; i < 8; i++) asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x[i]));
    float sum = 0;
    for (int i = 0; i < 8; i++) sum += x[i];
    if (sum == 12345.0f) out[0] = sum;
}

extern "C" __global__ void __launch_bounds__(256) floor_mma(float *out, int n) {
#if __CUDA_ARCH__ >= 800
    float c[8][4] = {{0}};
    unsigned a[4], b[2];
    for (int i = 0; i < 4; i++) a[i] = 0x3f803f80u + threadIdx.x;
    for (int i = 0; i < 2; i++) b[i] = 0x3c003c00u + threadIdx.x;
    for (int t = 0; t < n; t++)
#pragma unroll
        for (int i = 0; i < 8; i++)
            asm volatile(
                "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                : "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])
                : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    float sum = 0;
    for (int i = 0; i < 32; i++) sum += c[i / 4][i % 4];
    if (sum == 12345.0f) out[0] = sum;
#endif
}
