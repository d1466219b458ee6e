// What XLA calls, see native.py.

#include "direct.h"
#include "sums.h"
#include "winograd.h"

namespace {

auto two_arrays() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<Array>().Arg<Array>().Ret<Array>().Ret<
      ffi::Buffer<ffi::F32, 1>>();
}

auto of_tiles() { return two_arrays().Attr<int64_t>("some").Attr<int64_t>("workers"); }

auto of_windows() {
  return two_arrays().Attr<int64_t>("stride").Attr<int64_t>("padding").Attr<int64_t>("workers");
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(winograd_y, Convolve, of_tiles());
XLA_FFI_DEFINE_HANDLER_SYMBOL(winograd_k, KernelGradient, of_tiles());
XLA_FFI_DEFINE_HANDLER_SYMBOL(direct_y, DirectConvolve, of_windows());
XLA_FFI_DEFINE_HANDLER_SYMBOL(direct_x, DirectImageGradient, of_windows());
XLA_FFI_DEFINE_HANDLER_SYMBOL(direct_k, DirectKernelGradient, of_windows());
XLA_FFI_DEFINE_HANDLER_SYMBOL(norm_squares, Squares,
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
                                  .Attr<int64_t>("relu"));
