// 3x3 convolutions of stride 1 and padding 1, and the gradients of their kernels, by Winograd's
// minimal filtering F(4x4, 3x3), see winograd.py for where it is from.
//
// A worker takes some tiles of 4x4 outputs at a time, so few that all it makes of them stays in its
// cache: the 36 points of their inputs, at each point a product of matrices, and the outputs.
// Kernels are HWIO, channels a multiple of 16. native.py says how many tiles and workers.

#pragma once

#include "common.h"

namespace {

constexpr int kTile = 4, kPoints = 6, kKernel = 3;  // a side
constexpr int kTile2 = kTile * kTile, kPoints2 = kPoints * kPoints, kKernel2 = kKernel * kKernel;

// ---- the transforms along one side: winograd.INPUT, OUTPUT, its transpose, KERNEL, its transpose.
// Entries of `from` and `to` are so far apart.

// At a pair of points +p and -p a polynomial is its even part and its odd one, added and subtracted:
// the points 1, -1, 2 and -2.
inline void pairs(Vector even, Vector odd, Vector even2, Vector odd2, Vector* to, int apart_to) {
  to[apart_to] = even + odd;
  to[2 * apart_to] = even - odd;
  to[3 * apart_to] = even2 + odd2;
  to[4 * apart_to] = even2 - odd2;
}

struct Input {
  static constexpr int kFrom = kPoints, kTo = kPoints;
  static inline void side(const Vector* from, int apart, Vector* to, int apart_to) {
    const Vector d1 = from[apart], d2 = from[2 * apart], d3 = from[3 * apart];
    const Vector d4 = from[4 * apart];
    const Vector even = d4 - 4 * d2, odd = d3 - 4 * d1, even2 = d4 - d2, odd2 = 2 * (d3 - d1);
    to[0] = 4 * from[0] - 5 * d2 + d4;
    pairs(even, odd, even2, odd2, to, apart_to);
    to[5 * apart_to] = 4 * d1 - 5 * d3 + from[5 * apart];
  }
};

struct Output {
  static constexpr int kFrom = kPoints, kTo = kTile;
  static inline void side(const Vector* from, int apart, Vector* to, int apart_to) {
    const Vector m1 = from[apart], m2 = from[2 * apart], m3 = from[3 * apart];
    const Vector m4 = from[4 * apart];
    const Vector even = m1 + m2, odd = m1 - m2, even2 = m3 + m4, odd2 = m3 - m4;
    to[0] = from[0] + even + even2;
    to[apart_to] = odd + 2 * odd2;
    to[2 * apart_to] = even + 4 * even2;
    to[3 * apart_to] = odd + 8 * odd2 + from[5 * apart];
  }
};

struct OutputTransposed {
  static constexpr int kFrom = kTile, kTo = kPoints;
  static inline void side(const Vector* from, int apart, Vector* to, int apart_to) {
    const Vector g0 = from[0], g1 = from[apart], g2 = from[2 * apart], g3 = from[3 * apart];
    const Vector even = g0 + g2, odd = g1 + g3, even2 = g0 + 4 * g2, odd2 = 2 * g1 + 8 * g3;
    to[0] = g0;
    pairs(even, odd, even2, odd2, to, apart_to);
    to[5 * apart_to] = g3;
  }
};

struct Kernel {
  static constexpr int kFrom = kKernel, kTo = kPoints;
  static inline void side(const Vector* from, int apart, Vector* to, int apart_to) {
    const Vector w0 = from[0], w1 = from[apart], w2 = from[2 * apart];
    const Vector even = (w0 + w2) * (-1 / 6.f), odd = w1 * (-1 / 6.f);
    const Vector even2 = w0 * (1 / 24.f) + w2 * (1 / 6.f), odd2 = w1 * (1 / 12.f);
    to[0] = w0 * 0.25f;
    pairs(even, odd, even2, odd2, to, apart_to);
    to[5 * apart_to] = w2;
  }
};

struct KernelTransposed {
  static constexpr int kFrom = kPoints, kTo = kKernel;
  static inline void side(const Vector* from, int apart, Vector* to, int apart_to) {
    const Vector u1 = from[apart], u2 = from[2 * apart], u3 = from[3 * apart];
    const Vector u4 = from[4 * apart], even = (u1 + u2) * (-1 / 6.f), even2 = u3 + u4;
    to[0] = from[0] * 0.25f + even + even2 * (1 / 24.f);
    to[apart_to] = (u2 - u1) * (1 / 6.f) + (u3 - u4) * (1 / 12.f);
    to[2 * apart_to] = even + even2 * (1 / 6.f) + from[5 * apart];
  }
};

// Of a square, along both sides.
template <typename Side>
inline void transform(const Vector* from, Vector* to) {
  Vector half[Side::kTo * Side::kFrom];
#pragma GCC unroll 6
  for (int j = 0; j < Side::kFrom; ++j) Side::side(from + j, Side::kFrom, half + j, Side::kFrom);
#pragma GCC unroll 6
  for (int i = 0; i < Side::kTo; ++i) Side::side(half + i * Side::kFrom, 1, to + i * Side::kTo, 1);
}

// ---- tiles ----

int64_t high(const Shape& s) { return (s.height + kTile - 1) / kTile; }
int64_t wide(const Shape& s) { return (s.width + kTile - 1) / kTile; }
int64_t tiles(const Shape& s) { return s.n * high(s) * wide(s); }

// The pixels of a tile of kSize x kSize, which begins so many lines before the outputs: `outside`
// where there are none.
template <int kSize, typename Float>
void pixels(const Shape& s, int64_t tile, int64_t before, int64_t channels, Float* array,
            Float* outside, Float** at) {
  const int64_t column = tile % wide(s) * kTile - before, rest = tile / wide(s);
  const int64_t line = rest % high(s) * kTile - before;
  Float* image = array + rest / high(s) * s.height * s.width * channels;
  for (int64_t h = line; h < line + kSize; ++h)
    for (int64_t w = column; w < column + kSize; ++w) {
      const bool inside = h >= 0 && h < s.height && w >= 0 && w < s.width;
      *at++ = inside ? image + (h * s.width + w) * channels : outside;
    }
}

// The points of so many tiles of an array, which begin so many lines before the outputs: for each
// point a matrix, tiles x channels, in panels if kInPanels.
template <typename Side, bool kInPanels>
void points_of(const Shape& s, const float* array, int64_t channels, int64_t before, int64_t first,
               int64_t count, float* to, int64_t apart) {
  constexpr int kFrom2 = Side::kFrom * Side::kFrom;
  for (int64_t t = 0; t < count; ++t) {
    const float* at[kFrom2];
    pixels<Side::kFrom>(s, first + t, before, channels, array, kZeros, at);
    for (int64_t c = 0; c < channels; c += kLanes) {
      Vector tile[kFrom2], points[kPoints2];
#pragma GCC unroll 36
      for (int q = 0; q < kFrom2; ++q) tile[q] = load(at[q] + c);
      transform<Side>(tile, points);
      const Place place = kInPanels ? in_panels(c, channels, count) : Place{c, channels};
      float* out = to + place.first + t * place.next;
#pragma GCC unroll 36
      for (int q = 0; q < kPoints2; ++q) store(out + q * apart, points[q]);
    }
  }
}

void points_of_input(const Shape& s, const float* x, int64_t first, int64_t count, float* to,
                     int64_t apart) {
  points_of<Input, false>(s, x, s.in, 1, first, count, to, apart);
}

void points_of_gradient(const Shape& s, const float* g, int64_t first, int64_t count, float* to,
                        int64_t apart) {
  points_of<OutputTransposed, true>(s, g, s.out, 0, first, count, to, apart);
}

// The outputs of so many tiles from their points.
void outputs(const Shape& s, const float* from, int64_t apart, int64_t first, int64_t count,
             float* y) {
  for (int64_t t = 0; t < count; ++t) {
    float* at[kTile2];
    pixels<kTile, float>(s, first + t, 0, s.out, y, nullptr, at);
    for (int64_t c = 0; c < s.out; c += kLanes) {
      Vector points[kPoints2], tile[kTile2];
#pragma GCC unroll 36
      for (int q = 0; q < kPoints2; ++q) points[q] = load(from + q * apart + t * s.out + c);
      transform<Output>(points, tile);
      for (int q = 0; q < kTile2; ++q)
        if (at[q]) store(at[q] + c, tile[q]);
    }
  }
}

// The points of some input channels of the kernel: for each point a matrix in panels, in x out.
void points_of_kernel(const Shape& s, const float* kernel, int64_t first, int64_t last, float* to) {
  for (int64_t c = first; c < last; ++c)
    for (int64_t o = 0; o < s.out; o += kLanes) {
      Vector taps[kKernel2], points[kPoints2];
      for (int q = 0; q < kKernel2; ++q) taps[q] = load(kernel + (q * s.in + c) * s.out + o);
      transform<Kernel>(taps, points);
      const Place place = in_panels(o, s.out, s.in);
      float* at = to + place.first + c * place.next;
      for (int q = 0; q < kPoints2; ++q) store(at + q * s.in * s.out, points[q]);
    }
}

// How far the matrices of two points are apart: not by a power of two, which share a line of cache.
int64_t apart(int64_t tiles, int64_t channels) { return tiles * channels + 16; }

ffi::Error Convolve(ffi::ThreadPool pool, Array x, Array kernel, Result y, Scratch scratch,
                    int64_t some, int64_t workers) {
  const Shape s = shape_of(x, y->dimensions()[3]);
  const int64_t in = apart(some, s.in), out = apart(some, s.out), size = s.in * s.out;
  ffi::Error error = too_little(kPoints2 * (size + workers * (in + out)), scratch);
  if (error.failure()) return error;
  float *points = scratch->typed_data(), *rest = points + kPoints2 * size;
  share(pool, workers, workers, [&](int64_t i, int64_t) {
    const int64_t first = s.in * i / workers, last = s.in * (i + 1) / workers;
    points_of_kernel(s, kernel.typed_data(), first, last, points);
  });
  const int64_t parts = (tiles(s) + some - 1) / some;
  share(pool, workers, parts, [&](int64_t i, int64_t worker) {
    const int64_t first = i * some, count = std::min(some, tiles(s) - first);
    float *left = rest + worker * kPoints2 * (in + out), *made = left + kPoints2 * in;
    points_of_input(s, x.typed_data(), first, count, left, in);
    for (int q = 0; q < kPoints2; ++q)
      product<false>(count, s.out, s.in, left + q * in, s.in, 1, points + q * size, made + q * out,
                     s.out);
    outputs(s, made, out, first, count, y->typed_data());
  });
  return ffi::Error::Success();
}

ffi::Error KernelGradient(ffi::ThreadPool pool, Array x, Array g, Result gradient, Scratch scratch,
                          int64_t some, int64_t workers) {
  const Shape s = shape_of(x, g.dimensions()[3]);
  const int64_t in = apart(some, s.in), out = apart(some, s.out), size = s.in * s.out;
  ffi::Error error = too_little(workers * kPoints2 * (size + in + out), scratch);
  if (error.failure()) return error;
  float *sums = scratch->typed_data(), *rest = sums + workers * kPoints2 * size;
  // as many sums as workers, whoever computes them: the same numbers with every number of threads
  share(pool, workers, workers, [&](int64_t i, int64_t worker) {
    float *sum = sums + i * kPoints2 * size, *left = rest + worker * kPoints2 * (in + out);
    float* right = left + kPoints2 * in;
    const int64_t begin = tiles(s) * i / workers, end = tiles(s) * (i + 1) / workers;
    if (begin == end) std::fill(sum, sum + kPoints2 * size, 0.f);
    for (int64_t first = begin; first < end; first += some) {
      const int64_t count = std::min(some, end - first);
      points_of_input(s, x.typed_data(), first, count, left, in);
      points_of_gradient(s, g.typed_data(), first, count, right, out);
      for (int q = 0; q < kPoints2; ++q)
        (first == begin ? product<false> : product<true>)(s.in, s.out, count, left + q * in, 1,
                                                          s.in, right + q * out, sum + q * size,
                                                          s.out);
    }
  });
  share(pool, workers, s.in, [&](int64_t c, int64_t) {
    for (int64_t at = c * s.out; at < (c + 1) * s.out; at += kLanes) {
      Vector points[kPoints2], taps[kKernel2];
      for (int q = 0; q < kPoints2; ++q) {
        points[q] = load(sums + q * size + at);
        for (int64_t i = 1; i < workers; ++i)
          points[q] += load(sums + (i * kPoints2 + q) * size + at);
      }
      transform<KernelTransposed>(points, taps);
      for (int q = 0; q < kKernel2; ++q) store(gradient->typed_data() + q * size + at, taps[q]);
    }
  });
  return ffi::Error::Success();
}

}  // namespace
