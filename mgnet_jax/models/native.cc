// 3x3 convolutions of stride 1 and padding 1 on CPUs, and the gradients of their kernels, by
// Winograd's minimal filtering F(4x4, 3x3), see winograd.py for where it is from; and batch norm's
// sums over pixels, see norm_sums.py.
//
// A worker takes some tiles of 4x4 outputs at a time, so few that all it makes of them stays in its
// cache: the 36 points of their inputs, at each point a product of matrices, and the outputs. Arrays
// are NHWC, kernels HWIO, channels a multiple of 16. native.py says how many tiles and workers.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using Array = ffi::Buffer<ffi::F32, 4>;
using Result = ffi::ResultBuffer<ffi::F32, 4>;
using Scratch = ffi::ResultBuffer<ffi::F32, 1>;
using Numbers = ffi::Buffer<ffi::F32, 1>;  // one a channel
using Vectors = ffi::Buffer<ffi::F32, 2>;  // one an image and channel
using Sums = ffi::ResultBuffer<ffi::F32, 2>;

// What fits the registers: so many numbers in one, and a block of a product with so many rows and
// so many registers beside each other; with one beside each other, so many rows.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kRows = 12, kBeside = 2, kRowsAlone = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kRows = 6, kBeside = 2, kRowsAlone = 8;
#else
constexpr int kLanes = 4, kRows = 8, kBeside = 2, kRowsAlone = 12;
#endif
constexpr int kTile = 4, kPoints = 6, kKernel = 3;  // a side
constexpr int kTile2 = kTile * kTile, kPoints2 = kPoints * kPoints, kKernel2 = kKernel * kKernel;
constexpr int64_t kPanel = kLanes * kBeside;

typedef float Vector __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

inline Vector load(const float* p) { return *reinterpret_cast<const Vector*>(p); }
inline void store(float* p, Vector v) { *reinterpret_cast<Vector*>(p) = v; }

// ---- products of matrices ----

// c (kR rows of kV vectors) = a b, or += if kAdd; entry (i, k) of a is a[i * row + k * column].
template <int kR, int kV, bool kAdd>
inline void block(int64_t depth, const float* a, int64_t row, int64_t column, const float* b,
                  float* c, int64_t next) {
  Vector sum[kR][kV];
#pragma GCC unroll 16
  for (int i = 0; i < kR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kV; ++j) sum[i][j] = kAdd ? load(c + i * next + j * kLanes) : Vector{};
  for (int64_t k = 0; k < depth; ++k, a += column, b += kV * kLanes) {
    Vector right[kV];
#pragma GCC unroll 4
    for (int j = 0; j < kV; ++j) right[j] = load(b + j * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kR; ++i)
#pragma GCC unroll 4
      for (int j = 0; j < kV; ++j) sum[i][j] += a[i * row] * right[j];
  }
#pragma GCC unroll 16
  for (int i = 0; i < kR; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kV; ++j) store(c + i * next + j * kLanes, sum[i][j]);
}

// The same for any number of rows.
template <int kR, int kV, bool kAdd>
inline void rows(int64_t count, int64_t depth, const float* a, int64_t row, int64_t column,
                 const float* b, float* c, int64_t next) {
  for (; count >= kR; count -= kR, a += kR * row, c += kR * next)
    block<kR, kV, kAdd>(depth, a, row, column, b, c, next);
  if constexpr (kR > 1)
    if (count) rows<kR - 1, kV, kAdd>(count, depth, a, row, column, b, c, next);
}

// c (m x n, row-major) = a b, or += if kAdd. b lies in panels, depth x kPanel each, of which the
// last one may be narrower.
template <bool kAdd, int kV = kBeside>
void product(int64_t m, int64_t n, int64_t depth, const float* a, int64_t row, int64_t column,
             const float* b, float* c, int64_t next) {
  constexpr int64_t width = kV * kLanes;
  for (; n >= width; n -= width, b += depth * width, c += width)
    rows<kV == 1 ? kRowsAlone : kRows, kV, kAdd>(m, depth, a, row, column, b, c, next);
  if constexpr (kV > 1)
    if (n) product<kAdd, kV - 1>(m, n, depth, a, row, column, b, c, next);
}

// Where column c of a matrix of n columns and so many rows is, in panels: its first entry, and how
// far the next one is.
struct Place {
  int64_t first, next;
};

inline Place in_panels(int64_t c, int64_t n, int64_t rows) {
  const int64_t begin = c / kPanel * kPanel;
  return {begin * rows + c - begin, std::min(kPanel, n - begin)};
}

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

struct Shape {
  int64_t n, height, width, in, out;
  int64_t high() const { return (height + kTile - 1) / kTile; }
  int64_t wide() const { return (width + kTile - 1) / kTile; }
  int64_t tiles() const { return n * high() * wide(); }
};

// The pixels of a tile of kSize x kSize, which begins so many lines before the outputs: `outside`
// where there are none.
template <int kSize, typename Float>
void pixels(const Shape& s, int64_t tile, int64_t before, int64_t channels, Float* array,
            Float* outside, Float** at) {
  const int64_t column = tile % s.wide() * kTile - before, rest = tile / s.wide();
  const int64_t line = rest % s.high() * kTile - before;
  Float* image = array + rest / s.high() * s.height * s.width * channels;
  for (int64_t h = line; h < line + kSize; ++h)
    for (int64_t w = column; w < column + kSize; ++w) {
      const bool inside = h >= 0 && h < s.height && w >= 0 && w < s.width;
      *at++ = inside ? image + (h * s.width + w) * channels : outside;
    }
}

// What lies beyond the edge, for as many channels as native.py lets through.
alignas(64) const float kZeros[4096] = {};

// The points of x in so many tiles: for each point a matrix, tiles x channels.
void points_of_input(const Shape& s, const float* x, int64_t first, int64_t count, float* to,
                     int64_t apart) {
  for (int64_t t = 0; t < count; ++t) {
    const float* at[kPoints2];
    pixels<kPoints>(s, first + t, 1, s.in, x, kZeros, at);
    for (int64_t c = 0; c < s.in; c += kLanes) {
      Vector tile[kPoints2], points[kPoints2];
#pragma GCC unroll 36
      for (int q = 0; q < kPoints2; ++q) tile[q] = load(at[q] + c);
      transform<Input>(tile, points);
#pragma GCC unroll 36
      for (int q = 0; q < kPoints2; ++q) store(to + q * apart + t * s.in + c, points[q]);
    }
  }
}

// The same of the gradient of the outputs, the matrices in panels.
void points_of_gradient(const Shape& s, const float* g, int64_t first, int64_t count, float* to,
                        int64_t apart) {
  for (int64_t t = 0; t < count; ++t) {
    const float* at[kTile2];
    pixels<kTile>(s, first + t, 0, s.out, g, kZeros, at);
    for (int64_t c = 0; c < s.out; c += kLanes) {
      Vector tile[kTile2], points[kPoints2];
#pragma GCC unroll 16
      for (int q = 0; q < kTile2; ++q) tile[q] = load(at[q] + c);
      transform<OutputTransposed>(tile, points);
      const Place place = in_panels(c, s.out, count);
      float* out = to + place.first + t * place.next;
#pragma GCC unroll 36
      for (int q = 0; q < kPoints2; ++q) store(out + q * apart, points[q]);
    }
  }
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

// ---- the two functions ----

// Calls part(i, worker) for each i below count, on at most so many threads of the pool, this one
// among them. It waits for no thread that has not begun: all of them may be busy, and wait for us.
template <typename Part>
void share(ffi::ThreadPool pool, int64_t workers, int64_t count, const Part& part) {
  struct State {
    std::atomic<int64_t> next{0}, done{0}, workers{0};
  };
  auto state = std::make_shared<State>();
  auto work = [state, count, &part] {  // who comes late finds nothing left, and no `part`
    int64_t worker = -1;
    for (int64_t i; (i = state->next.fetch_add(1)) < count; state->done.fetch_add(1)) {
      if (worker < 0) worker = state->workers.fetch_add(1);
      part(i, worker);
    }
  };
  const int64_t threads = std::min({workers, count, std::max<int64_t>(1, pool.num_threads())});
  for (int64_t i = 1; i < threads; ++i) pool.Schedule(decltype(work)(work));
  work();
  while (state->done.load() < count) std::this_thread::yield();
}

// How far the matrices of two points are apart: not by a power of two, which share a line of cache.
int64_t apart(int64_t tiles, int64_t channels) { return tiles * channels + 16; }

Shape shape_of(const Array& x, int64_t out) {
  const auto d = x.dimensions();
  return {d[0], d[1], d[2], d[3], out};
}

ffi::Error too_little(int64_t needed, Scratch& scratch) {
  if (static_cast<int64_t>(scratch->element_count()) >= needed) return ffi::Error::Success();
  return ffi::Error(ffi::ErrorCode::kInvalidArgument, "native.py gave too little memory");
}

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
  const int64_t parts = (s.tiles() + some - 1) / some;
  share(pool, workers, parts, [&](int64_t i, int64_t worker) {
    const int64_t first = i * some, count = std::min(some, s.tiles() - first);
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
    const int64_t begin = s.tiles() * i / workers, end = s.tiles() * (i + 1) / workers;
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

// ---- batch norm's sums ----

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
                    Numbers scale, Numbers bias, Sums p, Sums q, int64_t workers, bool relu) {
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

auto binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<Array>()
      .Arg<Array>()
      .Ret<Array>()
      .Ret<ffi::Buffer<ffi::F32, 1>>()
      .Attr<int64_t>("some")
      .Attr<int64_t>("workers");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(convolve, Convolve, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(kernel_gradient, KernelGradient, binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(squares, Squares,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Array>()
                                  .Arg<Vectors>()
                                  .Ret<Vectors>()
                                  .Ret<Vectors>()
                                  .Attr<int64_t>("workers"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(norm_sums, NormSums,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Numbers>()
                                  .Arg<Numbers>()
                                  .Arg<Numbers>()
                                  .Arg<Numbers>()
                                  .Ret<Vectors>()
                                  .Ret<Vectors>()
                                  .Attr<int64_t>("workers")
                                  .Attr<bool>("relu"));
