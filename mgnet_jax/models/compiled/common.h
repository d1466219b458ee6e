// What the compiled code shares: registers, products of matrices, threads. Arrays are float32, NHWC.

#pragma once

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

// ---- images ----

struct Shape {
  int64_t n, height, width, in, out;
};

Shape shape_of(const Array& x, int64_t out) {
  const auto d = x.dimensions();
  return {d[0], d[1], d[2], d[3], out};
}

// What lies beyond the edge, for as many channels as native.py lets through.
alignas(64) const float kZeros[4096] = {};

// ---- threads and memory ----

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

ffi::Error too_little(int64_t needed, Scratch& scratch) {
  if (static_cast<int64_t>(scratch->element_count()) >= needed) return ffi::Error::Success();
  return ffi::Error(ffi::ErrorCode::kInvalidArgument, "native.py gave too little memory");
}

}  // namespace
