"""The original CycleGAN's networks in PyTorch, written from the paper's appendix."""

import numpy as np
import torch
from torch import nn


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x):
        return x + self.body(x)


def generator(width, blocks, channels=3):
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(channels, width, 7)]
    layers += [nn.InstanceNorm2d(width), nn.ReLU()]
    for factor in (2, 4):
        layers.append(nn.Conv2d(factor * width // 2, factor * width, 3, stride=2, padding=1))
        layers += [nn.InstanceNorm2d(factor * width), nn.ReLU()]
    layers += [Residual(4 * width) for _ in range(blocks)]
    for factor in (2, 1):
        options = {"stride": 2, "padding": 1, "output_padding": 1}
        layers.append(nn.ConvTranspose2d(2 * factor * width, factor * width, 3, **options))
        layers += [nn.InstanceNorm2d(factor * width), nn.ReLU()]
    layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, channels, 7), nn.Tanh()]
    return nn.Sequential(*layers)


def discriminator(width, channels=3):
    layers = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    for before, after, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
        layers.append(nn.Conv2d(before * width, after * width, 4, stride=stride, padding=1))
        layers += [nn.InstanceNorm2d(after * width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, padding=1))


def generator_weights(network, blocks):
    """Returns the weights of `generator` as parameters for gaxn.models.cyclegan."""
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    first, *downs = convolutions[:3]
    residual = convolutions[3 : 3 + 2 * blocks]
    *ups, last = convolutions[3 + 2 * blocks :]
    params = {"first": _conv(first), "last": _conv(last)}
    for factor, layer in zip((2, 4), downs, strict=True):
        params[f"down_{factor}"] = _conv(layer)
    for index, layer in enumerate(residual):
        params[f"block_{index // 2}_{('first', 'second')[index % 2]}"] = _conv(layer)
    for factor, layer in zip((2, 1), ups, strict=True):
        # [inputs, outputs, rows, columns], unlike that of a convolution.
        kernel = layer.weight.detach().numpy().transpose(2, 3, 0, 1)
        params[f"up_{factor}"] = {"kernel": kernel}
        params[f"up_{factor}_bias"] = layer.bias.detach().numpy()
    return params


def discriminator_weights(network):
    """Returns the weights of `discriminator` as parameters for gaxn.models.cyclegan."""
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    names = ["down_0", "down_1", "down_2", "still", "logits"]
    return {name: _conv(layer) for name, layer in zip(names, convolutions, strict=True)}


def _conv(layer):
    kernel = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
    return {"kernel": kernel, "bias": layer.bias.detach().numpy()}


def apply(network, images):
    """Applies a network to images NHWC; returns NHWC."""
    with torch.no_grad():
        output = network(torch.from_numpy(np.asarray(images).transpose(0, 3, 1, 2)))
    return output.numpy().transpose(0, 2, 3, 1)
