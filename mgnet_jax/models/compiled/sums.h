// Batch norm's sums over pixels, see norm_sums.py. Channels are a multiple of 16.

#pragma once

#include "common.h"

namespace {

// Two sums over the pixels of an image, of what pair(pixel, channel, a, b) adds to them: those of
// each row, and then the rows', so that little is added to what is large. kV registers of channels
// are summed at a time, kOnce pixels side by side.
template <int kV, int kOnce, typename Pair>
inline void two_sums(const Shape& s, int64_t channel, float* first, float* second,
                     const Pair& pair) {
  Vector total[2][kV] = {};
  for (int64_t h = 0; h < s.height; ++h) {
    Vector sum[2][kOnce][kV] = {};
    const int64_t row = h * s.width;
    int64_t w = 0;
    for (; w + kOnce <= s.width; w += kOnce)
#pragma GCC unroll 4
      for (int i = 0; i < kOnce; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < kV; ++j) pair(row + w + i, j, sum[0][i][j], sum[1][i][j]);
    for (; w < s.width; ++w)
#pragma GCC unroll 4
      for (int j = 0; j < kV; ++j) pair(row + w, j, sum[0][0][j], sum[1][0][j]);
#pragma GCC unroll 4
    for (int i = 0; i < kOnce; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < kV; ++j) {
        total[0][j] += sum[0][i][j];
        total[1][j] += sum[1][i][j];
      }
  }
  for (int j = 0; j < kV; ++j) {
    store(first + channel + j * kLanes, total[0][j]);
    store(second + channel + j * kLanes, total[1][j]);
  }
}

// Calls part(image, channel, registers of channels) for all, images in parallel.
template <typename Part>
void for_channels(ffi::ThreadPool pool, int64_t workers, const Shape& s, const Part& part) {
  share(pool, workers, s.n, [&](int64_t image, int64_t) {
    int64_t c = 0;
    for (; c + 2 * kLanes <= s.in; c += 2 * kLanes)
      part(image, c, std::integral_constant<int, 2>());
    for (; c < s.in; c += kLanes) part(image, c, std::integral_constant<int, 1>());
  });
}

ffi::Error Squares(ffi::ThreadPool pool, Array x, Vectors first, Sums sum, Sums square,
                   int64_t workers) {
  const Shape s = shape_of(x, 0);
  for_channels(pool, workers, s, [&](int64_t image, int64_t c, auto registers) {
    constexpr int kV = registers;
    const float* at = x.typed_data() + image * s.height * s.width * s.in + c;
    const int64_t begin = image * s.in;
    Vector shift[kV];
    for (int j = 0; j < kV; ++j) shift[j] = load(first.typed_data() + begin + c + j * kLanes);
    two_sums<kV, 4 / kV>(s, c, sum->typed_data() + begin, square->typed_data() + begin,
                         [&](int64_t pixel, int j, Vector& a, Vector& b) {
                           const Vector d = load(at + pixel * s.in + j * kLanes) - shift[j];
                           a += d;
                           b += d * d;
                         });
  });
  return ffi::Error::Success();
}

typedef int32_t Mask __attribute__((vector_size(4 * kLanes)));

ffi::Error NormSums(ffi::ThreadPool pool, Array g, Array x, Numbers mean, Numbers inverse,
                    Numbers scale, Numbers bias, Sums p, Sums q, int64_t workers, int64_t relu) {
  const Shape s = shape_of(x, 0);
  for_channels(pool, workers, s, [&](int64_t image, int64_t c, auto registers) {
    constexpr int kV = registers;
    const int64_t begin = image * s.in, pixels = begin * s.height * s.width + c;
    const float *x_at = x.typed_data() + pixels, *g_at = g.typed_data() + pixels;
    const float* numbers[4] = {mean.typed_data(), inverse.typed_data(), scale.typed_data(),
                               bias.typed_data()};
    Vector v[4][kV];
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < kV; ++j) v[i][j] = load(numbers[i] + c + j * kLanes);
    two_sums<kV, 4 / kV>(s, c, p->typed_data() + begin, q->typed_data() + begin,
                         [&](int64_t pixel, int j, Vector& a, Vector& b) {
                           const int64_t at = pixel * s.in + j * kLanes;
                           const Vector z = (load(x_at + at) - v[0][j]) * v[1][j];
                           Vector passed = load(g_at + at);
                           if (relu)
                             passed = (Vector)((Mask)passed & (Mask)(z * v[2][j] + v[3][j] > 0));
                           a += z * passed;
                           b += passed;
                         });
  });
  return ffi::Error::Success();
}

}  // namespace
