"""What a network costs, counted part by part without running it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a network.

    Attributes:
      name: as in the parameter tree.
      detail: what it does, for people.
      output: shape of its output for one image, (height, width, channels) or (classes,).
      parameters: trainable numbers.
      macs: multiply-adds of its convolutions and linear maps, forward, for one image. Batch norm,
        ReLU, pooling and additions are not counted (under 1 % of the work).
      kept: activations that a backward pass reads again, numbers for one image; an estimate.
    """

    name: str
    detail: str
    output: tuple[int, ...]
    parameters: int
    macs: int
    kept: int

    def merge(self, other: "Part", name: str, detail: str) -> "Part":
        """This part and another that runs beside it, as one; the output is this one's."""
        return Part(
            name,
            detail,
            self.output,
            self.parameters + other.parameters,
            self.macs + other.macs,
            self.kept + other.kept,
        )

    def with_output(self, grid: tuple[int, int]) -> "Part":
        """This part followed by a pooling to another grid (height, width)."""
        return dataclasses.replace(self, output=(*grid, self.output[-1]))


def conv_size(grid: tuple[int, int], stride: int) -> tuple[int, int]:
    """Height and width after a convolution with an odd kernel, padded by half of it."""
    return (grid[0] - 1) // stride + 1, (grid[1] - 1) // stride + 1


def conv_bn(name: str, c_in: int, c_out: int, size: int, grid: tuple[int, int]) -> Part:
    """A convolution without bias onto a grid (height, width), then affine batch norm and ReLU."""
    kernel, points = size * size * c_in * c_out, grid[0] * grid[1]
    return Part(
        name=name,
        detail=f"{size}x{size}, BN, ReLU",
        output=(*grid, c_out),
        parameters=kernel + 2 * c_out,
        macs=kernel * points,
        kept=2 * points * c_out,
    )
