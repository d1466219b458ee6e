"""Which algorithm a program gets for the platform that it is compiled for."""

from collections.abc import Callable
from typing import Any

from jax.extend.core import Primitive
from jax.interpreters import mlir


def lower(primitive: Primitive, everywhere: Callable, one: Callable, several: Callable) -> None:
    """Says what computes a primitive.

    Args:
      primitive: what is computed.
      everywhere: computes it on accelerators.
      one: on a CPU that runs the program alone, where it may loop over images.
      several: on CPUs that run it together, and divide the images.
    """
    functions = everywhere, one, several
    lower_any, lower_one, lower_several = (
        mlir.lower_fun(f, multiple_results=primitive.multiple_results) for f in functions
    )

    def on_cpus(context: Any, *arguments: Any, **params: Any) -> Any:
        devices = getattr(context.module_context.axis_context, "num_devices", 1)
        return (lower_one if devices == 1 else lower_several)(context, *arguments, **params)

    mlir.register_lowering(primitive, lower_any)
    mlir.register_lowering(primitive, on_cpus, platform="cpu")
