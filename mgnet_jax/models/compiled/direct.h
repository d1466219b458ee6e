// Convolutions of any size and stride, and their gradients, as sums of products of matrices: in a
// line of an image with its margins, the pixels that a window sees beside each other, with all their
// channels, are one row of a matrix. Kernels are HWIO; the channels that products write are a
// multiple of 16.

#pragma once

#include "common.h"

namespace {

// Windows of so many pixels a side over images with margins; rows and columns of outputs.
struct Windows {
  Shape s;
  int64_t size, stride, padding, rows, columns;
  int64_t depth() const { return size * s.in; }
  int64_t line() const { return (s.width + 2 * padding) * s.in; }
  int64_t area() const { return (s.height + 2 * padding) * line(); }
  int64_t outputs() const { return rows * columns; }
  // Where line `a` of the windows of a row of outputs begins.
  int64_t begin(int64_t row, int64_t a) const { return (row * stride + a) * line(); }
};

Windows windows_of(const Array& x, int64_t out, int64_t size, int64_t stride, int64_t padding) {
  const Shape s = shape_of(x, out);
  const auto outputs = [&](int64_t n) { return (n + 2 * padding - size) / stride + 1; };
  return {s, size, stride, padding, outputs(s.height), outputs(s.width)};
}

// An image with its margins.
void pad(const Windows& w, const float* image, float* to) {
  const int64_t margin = w.padding * w.s.in, width = w.s.width * w.s.in;
  std::fill(to, to + w.padding * w.line(), 0.f);
  to += w.padding * w.line();
  for (int64_t h = 0; h < w.s.height; ++h, image += width, to += w.line()) {
    std::fill(to, to + margin, 0.f);
    std::copy(image, image + width, to + margin);
    std::fill(to + margin + width, to + w.line(), 0.f);
  }
  std::fill(to, to + w.padding * w.line(), 0.f);
}

// The image without its margins.
void crop(const Windows& w, const float* padded, float* image) {
  const int64_t width = w.s.width * w.s.in;
  padded += w.padding * w.line() + w.padding * w.s.in;
  for (int64_t h = 0; h < w.s.height; ++h, image += width, padded += w.line())
    std::copy(padded, padded + width, image);
}

// A matrix in panels; its entry (i, j) is at from[i * row + j * column].
void to_panels(int64_t rows, int64_t columns, const float* from, int64_t row, int64_t column,
               float* to) {
  for (int64_t begin = 0; begin < columns; begin += kPanel) {
    const int64_t width = std::min(kPanel, columns - begin);
    for (int64_t i = 0; i < rows; ++i, to += width)
      for (int64_t j = 0; j < width; ++j) to[j] = from[i * row + (begin + j) * column];
  }
}

ffi::Error DirectConvolve(ffi::ThreadPool pool, Array x, Array kernel, Result y, Scratch scratch,
                          int64_t stride, int64_t padding, int64_t workers) {
  const Windows w = windows_of(x, y->dimensions()[3], kernel.dimensions()[0], stride, padding);
  const int64_t out = w.s.out, depth = w.depth(), part = depth * out;
  ffi::Error error = too_little(w.size * part + workers * w.area(), scratch);
  if (error.failure()) return error;
  float *panels = scratch->typed_data(), *rest = panels + w.size * part;
  share(pool, workers, w.size, [&](int64_t a, int64_t) {
    to_panels(depth, out, kernel.typed_data() + a * part, out, 1, panels + a * part);
  });
  share(pool, workers, w.s.n, [&](int64_t i, int64_t worker) {
    float *image = rest + worker * w.area(), *made = y->typed_data() + i * w.outputs() * out;
    pad(w, x.typed_data() + i * w.s.height * w.s.width * w.s.in, image);
    for (int64_t c = 0; c < out; c += kPanel)
      for (int64_t h = 0; h < w.rows; ++h)
        for (int64_t a = 0; a < w.size; ++a)
          (a ? product<true> : product<false>)(
              w.columns, std::min(kPanel, out - c), depth, image + w.begin(h, a), stride * w.s.in, 1,
              panels + a * part + c * depth, made + h * w.columns * out + c, out);
  });
  return ffi::Error::Success();
}

ffi::Error DirectImageGradient(ffi::ThreadPool pool, Array g, Array kernel, Result x,
                               Scratch scratch, int64_t stride, int64_t padding, int64_t workers) {
  const auto d = x->dimensions();
  const int64_t size = kernel.dimensions()[0], places = size * size;
  const Windows w{{d[0], d[1], d[2], d[3], g.dimensions()[3]}, size, stride, padding,
                  g.dimensions()[1], g.dimensions()[2]};
  const int64_t in = w.s.in, out = w.s.out, part = in * out;
  ffi::Error error = too_little(places * part + workers * w.area(), scratch);
  if (error.failure()) return error;
  float *panels = scratch->typed_data(), *rest = panels + places * part;
  share(pool, workers, places, [&](int64_t place, int64_t) {
    to_panels(out, in, kernel.typed_data() + place * part, 1, out, panels + place * part);
  });
  share(pool, workers, w.s.n, [&](int64_t i, int64_t worker) {
    float* image = rest + worker * w.area();
    const float* given = g.typed_data() + i * w.outputs() * out;
    std::fill(image, image + w.area(), 0.f);
    for (int64_t c = 0; c < in; c += kPanel)
      for (int64_t h = 0; h < w.rows; ++h)
        for (int64_t place = 0; place < places; ++place)
          product<true>(w.columns, std::min(kPanel, in - c), out, given + h * w.columns * out, out,
                        1, panels + place * part + c * out,
                        image + w.begin(h, place / size) + place % size * in + c, stride * in);
    crop(w, image, x->typed_data() + i * w.s.height * w.s.width * in);
  });
  return ffi::Error::Success();
}

ffi::Error DirectKernelGradient(ffi::ThreadPool pool, Array x, Array g, Result gradient,
                                Scratch scratch, int64_t stride, int64_t padding,
                                int64_t workers) {
  const Windows w =
      windows_of(x, g.dimensions()[3], gradient->dimensions()[0], stride, padding);
  const int64_t out = w.s.out, depth = w.depth(), part = depth * out, all = w.size * part;
  const int64_t made = w.outputs() * out;
  ffi::Error error = too_little(workers * (all + w.area() + made), scratch);
  if (error.failure()) return error;
  float *sums = scratch->typed_data(), *rest = sums + workers * all;
  // as many sums as workers, whoever computes them: the same numbers with every number of threads
  share(pool, workers, workers, [&](int64_t share, int64_t worker) {
    float *sum = sums + share * all, *image = rest + worker * (w.area() + made);
    float* panels = image + w.area();
    std::fill(sum, sum + all, 0.f);
    for (int64_t i = w.s.n * share / workers; i < w.s.n * (share + 1) / workers; ++i) {
      pad(w, x.typed_data() + i * w.s.height * w.s.width * w.s.in, image);
      to_panels(w.outputs(), out, g.typed_data() + i * made, out, 1, panels);
      for (int64_t c = 0; c < out; c += kPanel) {
        const int64_t width = std::min(kPanel, out - c);
        for (int64_t a = 0; a < w.size; ++a)
          for (int64_t h = 0; h < w.rows; ++h)
            product<true>(depth, width, w.columns, image + w.begin(h, a), 1, stride * w.s.in,
                          panels + c * w.outputs() + h * w.columns * width, sum + a * part + c,
                          out);
      }
    }
  });
  float* total = gradient->typed_data();
  std::copy(sums, sums + all, total);
  for (int64_t i = 1; i < workers; ++i)
    for (int64_t at = 0; at < all; ++at) total[at] += sums[i * all + at];
  return ffi::Error::Success();
}

}  // namespace
