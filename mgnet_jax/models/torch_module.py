"""The file that makes an exported network in PyTorch: the published MgNet's module, or a call.

It is text, written beside the state dict; nothing here imports PyTorch.
"""

from mgnet_jax.models import pytorch as layouts
from mgnet_jax.models.network import Network

HEAD = '''"""{spec} in PyTorch, written by mgnet_jax. `load()` gives it with its weights.

Images are floats (N, {channels}, {height}, {width}), (pixels / 255 - MEAN) / STD, see `normalise`.
Needs torch and safetensors{more}; nothing of mgnet_jax.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
{imports}
MEAN = {mean}
STD = {std}
CLASSES = {classes}

'''
TAIL = '''

def load(folder=None):
    """The network with its weights, in evaluation mode; `.train()` to train it on."""
    network = make()
    folder = Path(__file__).parent if folder is None else Path(folder)
    network.load_state_dict(load_file(folder / "pytorch_model.safetensors"))
    return network.eval()


def normalise(pixels):
    """What the network takes, of uint8 (N, {channels}, H, W)."""
    mean, std = (torch.tensor(x).view(1, -1, 1, 1) for x in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std
'''
MODULE = '''
def conv(c_in, c_out, size=3, stride=1):
    """A convolution without bias."""
    return nn.Conv2d(c_in, c_out, size, stride, size // 2, bias=False)


class Step(nn.Module):
    """u <- u + ReLU(BN(S ReLU(BN(f - A u)))); S is the paper's B."""

    def __init__(self, A, S):
        super().__init__()
        self.A, self.S = A, S
        self.bn1, self.bn2 = nn.BatchNorm2d(A.out_channels), nn.BatchNorm2d(S.out_channels)

    def forward(self, state):
        u, f = state
        return u + relu(self.bn2(self.S(relu(self.bn1(f - self.A(u)))))), f


class Restriction(nn.Module):
    """To the next grid: u' = ReLU(BN(Pi u)), f' = ReLU(BN(R (f - A u))) + A' u'."""

    def __init__(self, A_old, A, Pi, R):
        super().__init__()
        self.A_old, self.A, self.Pi, self.R = A_old, A, Pi, R
        self.bn1, self.bn2 = nn.BatchNorm2d(Pi.out_channels), nn.BatchNorm2d(R.out_channels)

    def forward(self, state):
        u, f = state
        r = f - self.A_old(u)
        u = relu(self.bn1(self.Pi(u)))
        return u, relu(self.bn2(self.R(r))) + self.A(u)


class MgNet(nn.Module):
    """MgNet (He and Xu 2019), with the names of the published script's state dict."""

    def __init__(self, nu, channels, share_B, images, classes, imagenet):
        super().__init__()
        self.c_u, self.levels = channels[0][0], len(nu)
        self.conv1 = conv(images, channels[0][1], *((7, 2) if imagenet else (3, 1)))
        self.bn1 = nn.BatchNorm2d(channels[0][1])
        self.pool = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()
        A_old = None
        for l, (n, (c_u, c_f)) in enumerate(zip(nu, channels)):
            A, S = conv(c_u, c_f), conv(c_f, c_u)
            steps = [Step(A, S if share_B or not i else conv(c_f, c_u)) for i in range(n)]
            if l:
                Pi, R = conv(channels[l - 1][0], c_u, 3, 2), conv(channels[l - 1][1], c_f, 3, 2)
                steps = [Restriction(A_old, A, Pi, R), *steps]
            setattr(self, f"layer{l}", nn.Sequential(*steps))
            A_old = A
        self.fc = nn.Linear(channels[-1][0], classes)

    def forward(self, images):
        f = self.pool(relu(self.bn1(self.conv1(images))))
        state = f.new_zeros(f.shape[0], self.c_u, *f.shape[2:]), f
        for l in range(self.levels):
            state = getattr(self, f"layer{l}")(state)
        return self.fc(state[0].mean((2, 3)))


'''


def text(
    model: Network,
    image_shape: tuple[int, int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    class_names: tuple[str, ...],
) -> str:
    """The file for a network that PyTorch has names for.

    Args:
      model: the network.
      image_shape: (H, W, C) of the images trained on.
      mean: per channel, of pixels / 255.
      std: likewise.
      class_names: in label order; () where they are not known.
    """
    height, width, channels = image_shape
    call = layouts.torch_network(model)
    functions = "from torch import nn\nfrom torch.nn.functional import relu\n"
    head = HEAD.format(
        spec=model.spec,
        channels=channels,
        height=height,
        width=width,
        more=" and torchvision" if call else "",
        imports="import torchvision\n" if call else functions,
        mean=mean,
        std=std,
        classes=class_names,
    )
    made = call or (
        f"MgNet({layouts.mgnet_arguments(model)}, {channels}, {model.num_classes}, "
        f"imagenet={model.stem == 'imagenet'})"
    )
    dtype = ".double()" if model.dtype == "float64" else ""
    make = f'def make():\n    """The network with random weights."""\n    return {made}{dtype}\n'
    return head + ("\n" if call else MODULE) + make + TAIL.format(channels=channels)
