// scan_step.h - few tokens of a selective scan, for the kernels that are nothing else or end with it.

FN float step_of(const float *dt, const float *bias, int channel, const scan_numbers &N) {
    float d = *dt + (N.has_bias ? bias[channel * N.bias_stride] : 0.0f);
    return N.softplus ? f_softplus(d) : d;
}

// 16 lanes a channel, 8 channels a group, states 16 apart, of up to 64. given: dt of these channels, or NULL where it is in
// memory.
FN void scan_step(const float *u, const float *dt, const float *given, const float *A, const float *B, const float *C,
                  const float *D, const float *z, const float *bias, const float *state, float *y, float *after, int group, int b,
                  const scan_numbers &N) {
    const int s = LOCAL & 15, channel = group * 8 + (LOCAL >> 4), c = IMIN(channel, N.channels - 1);
    const bool mine = channel < N.channels;
    float h[4] = {}, a[4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (s + 16 * i < N.states) {
            a[i] = A[(long long)c * N.a_stride + s + 16 * i] * EXP_SCALE;
            if (N.has_state) h[i] = state[(long long)b * N.state[0] + (long long)c * N.state[1] + (s + 16 * i) * N.state[2]];
        }
    for (int t = 0; t < N.tokens; t++) {
        const float x = u[(long long)b * N.u[0] + (long long)t * N.u[1] + c],
                    d = step_of(given ? given + (c - group * 8) : dt + (long long)b * N.dt[0] + (long long)t * N.dt[1] + c, bias, c, N);
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (s + 16 * i < N.states) {
                h[i] = FMA(EXP_SCALED(d * a[i]), h[i], d * x * B[(long long)b * N.b[0] + (long long)t * N.b[1] + s + 16 * i]);
                sum = FMA(C[(long long)b * N.c[0] + (long long)t * N.c[1] + s + 16 * i], h[i], sum);
            }
#pragma unroll
        for (int mask = 1; mask < 16; mask *= 2) sum += warp_xor(sum, mask);
        if (s == 0 && mine) {
            if (N.has_d) sum = FMA(D[c * N.d_stride], x, sum);
            if (N.has_z) {
                const float gate = z[(long long)b * N.z[0] + (long long)t * N.z[1] + c];
                sum *= f_gated(gate, f_sigmoid(gate));
            }
            y[(long long)b * N.y[0] + (long long)t * N.y[1] + c] = sum;
        }
    }
    if (mine && N.has_after) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (s + 16 * i < N.states)
                after[(long long)b * N.after[0] + (long long)c * N.after[1] + (s + 16 * i) * N.after[2]] = h[i];
    }
}
