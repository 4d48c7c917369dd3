"""Rows of trilinear samples on the CPU, written so that the compiler vectorises them.

A row is a line of samples at ``base + i * step``, in voxels of the wanted image. All eight
neighbours of each sample exist. First, the addresses and weights of 64 samples are computed in
vector registers. Then the interpolation handles the two neighbours along the contiguous axis as
one pair. This takes about half the time of the same loop without vectors.
"""

from __future__ import annotations

import warp as wp

_BLOCKS = """
    #pragma clang fp contract(fast)
    typedef float pair __attribute__((ext_vector_type(2), aligned(4)));
    enum { BLOCK = 64 };
    int at[BLOCK];
    float w00[BLOCK], w01[BLOCK], w10[BLOCK], w11[BLOCK], fz[BLOCK];
    pair held[BLOCK];
    float* y = image.data;
    float* row = samples.data + start;
    for (int first = begin; first < end; first += BLOCK) {
        const int count = end - first < BLOCK ? end - first : BLOCK;
        for (int k = 0; k < BLOCK; ++k) {
            const float i = (float)(first + k);
            const float px = base.c[0] + i * step.c[0];
            const float py = base.c[1] + i * step.c[1];
            const float pz = base.c[2] + i * step.c[2];
            const int ix = (int)px, iy = (int)py, iz = (int)pz;
            const float fx = px - (float)ix, fy = py - (float)iy;
            fz[k] = pz - (float)iz;
            at[k] = ix * plane + iy * line + iz;
            w11[k] = fx * fy;
            w10[k] = fx - w11[k];
            w01[k] = fy - w11[k];
            w00[k] = 1.0f - fx - w01[k];
        }
        for (int k = 0; k < count; k += 8) {
            const float* next = y + at[k] + ahead;
            __builtin_prefetch(next);
            __builtin_prefetch(next + line);
            __builtin_prefetch(next + plane);
            __builtin_prefetch(next + plane + line);
        }
"""

_PULL = """
        for (int k = 0; k < count; ++k) {
            const float* p = y + at[k];
            held[k] = w00[k] * *(const pair*)p
                    + w01[k] * *(const pair*)(p + line)
                    + w10[k] * *(const pair*)(p + plane)
                    + w11[k] * *(const pair*)(p + plane + line);
        }
        float* __restrict__ out = row + first;
        for (int k = 0; k < count; ++k) out[k] = held[k].x + fz[k] * (held[k].y - held[k].x);
    }
"""

# Neighbouring samples share voxels. Handling every other sample first avoids loads that wait for
# the store just before them.
_PUSH = """
        const float* in = row + first;
        for (int k = 0; k < count; ++k) {
            const float upper = in[k] * fz[k];
            held[k].x = in[k] - upper;
            held[k].y = upper;
        }
        for (int parity = 0; parity < 2; ++parity) {
            for (int k = parity; k < count; k += 2) {
                float* p = y + at[k];
                *(pair*)p += w00[k] * held[k];
                *(pair*)(p + line) += w01[k] * held[k];
                *(pair*)(p + plane) += w10[k] * held[k];
                *(pair*)(p + plane + line) += w11[k] * held[k];
            }
        }
    }
"""


@wp.func_native(_BLOCKS + _PULL)
def pull_row(
    image: wp.array(dtype=wp.float32),
    plane: int,
    line: int,
    samples: wp.array(dtype=wp.float32),
    start: int,
    begin: int,
    end: int,
    base: wp.vec3,
    step: wp.vec3,
    ahead: int,
):
    """Interpolate ``image`` at samples ``begin .. end`` of a row into ``samples[start + i]``."""
    ...


@wp.func_native(_BLOCKS + _PUSH)
def push_row(
    image: wp.array(dtype=wp.float32),
    plane: int,
    line: int,
    samples: wp.array(dtype=wp.float32),
    start: int,
    begin: int,
    end: int,
    base: wp.vec3,
    step: wp.vec3,
    ahead: int,
):
    """Add ``samples[start + i]`` to the voxels around each sample: transpose of ``pull_row``."""
    ...


@wp.func_native("""
    #pragma clang fp contract(fast)
    float* __restrict__ to = target.data + at_target;
    const float* __restrict__ from = source.data + at_source;
    for (int i = 0; i < count; ++i) to[i] += weight * from[i];
""")
def add_scaled_row(
    target: wp.array(dtype=wp.float32),
    at_target: int,
    source: wp.array(dtype=wp.float32),
    at_source: int,
    count: int,
    weight: float,
):
    """``target[at_target + i] += weight * source[at_source + i]``; the rows must not overlap."""
    ...


@wp.func_native("""
    #pragma clang fp contract(fast)
    const int taps = (int)weights.shape[0];
    const float* __restrict__ w = weights.data;
    const float* __restrict__ in = samples.data + at_samples;
    float* __restrict__ out = predicted.data + at_predicted;
    for (int k = 0; k < count; ++k) {
        float sum = 0.0f;
        for (int tap = 0; tap < taps; ++tap) sum += w[tap] * in[k * ratio + tap];
        out[k] = sum;
    }
""")
def correlate_row(
    samples: wp.array(dtype=wp.float32),
    at_samples: int,
    weights: wp.array(dtype=wp.float32),
    ratio: int,
    predicted: wp.array(dtype=wp.float32),
    at_predicted: int,
    count: int,
):
    """Weighted sums over a row of samples, with a stride of ``ratio`` samples."""
    ...


@wp.func_native("""
    #pragma clang fp contract(fast)
    const int taps = (int)weights.shape[0];
    const float* __restrict__ w = weights.data;
    float* __restrict__ out = samples.data + at_samples;
    const float* __restrict__ in = predicted.data + at_predicted;
    for (int i = 0; i < (count - 1) * ratio + taps; ++i) out[i] = 0.0f;
    for (int k = 0; k < count; ++k) {
        for (int tap = 0; tap < taps; ++tap) out[k * ratio + tap] += w[tap] * in[k];
    }
""")
def spread_row(
    predicted: wp.array(dtype=wp.float32),
    at_predicted: int,
    weights: wp.array(dtype=wp.float32),
    ratio: int,
    samples: wp.array(dtype=wp.float32),
    at_samples: int,
    count: int,
):
    """Transpose of ``correlate_row``; overwrites the samples."""
    ...


@wp.func_native("""
    float* __restrict__ to = target.data + at;
    for (int i = 0; i < count; ++i) to[i] = 0.0f;
""")
def clear_row(target: wp.array(dtype=wp.float32), at: int, count: int):
    """Set ``target[at + i]`` to 0."""
    ...


@wp.func_native("""
    #pragma clang fp contract(fast)
    #pragma clang fp reassociate(on)
    float* __restrict__ r = predicted.data + at_predicted;
    const float* __restrict__ tau = precision.data + at_scan;
    const float* __restrict__ x = scan.data + at_scan;
    float sum = 0.0f;
    if (measured) {
        for (int i = 0; i < count; ++i) {
            const float d = r[i] - x[i];
            r[i] = tau[i] * d;
            sum += r[i] * d;
        }
    } else {
        for (int i = 0; i < count; ++i) {
            const float d = r[i];
            r[i] = tau[i] * d;
            sum += r[i] * d;
        }
    }
    return (double)sum;
""")
def weigh_residual_row(
    predicted: wp.array(dtype=wp.float32),
    at_predicted: int,
    precision: wp.array(dtype=wp.float32),
    scan: wp.array(dtype=wp.float32),
    at_scan: int,
    count: int,
    measured: int,
) -> wp.float64:
    """Turn a row of predictions into ``precision * (prediction - scan)``; return twice its cost."""
    ...
