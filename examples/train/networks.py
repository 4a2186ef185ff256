"""The three small networks for 8x8 digits: plain, ShuffleNet-style and depthwise separable."""

import torch
from torch import Tensor, nn


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch normalization and, unless `activation` is None, an activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] | None = nn.ReLU,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        if activation is not None:
            self.act = activation()


class ChannelShuffle(nn.Module):
    """Channel g * n + i moves to i * groups + g, where n is the number of channels in a group."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        grouped = x.reshape(batch, self.groups, channels // self.groups, height, width)
        return grouped.transpose(1, 2).reshape(batch, channels, height, width)


class ChannelSplit(nn.Module):
    """The first and the second half of the channels."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        left, right = x.chunk(2, dim=1)
        return left, right


class Concat(nn.Module):
    """Two tensors side by side along the channels."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.cat([left, right], dim=1)


class GroupedUnit(nn.Module):
    """ShuffleNet v1: grouped 1x1, shuffle, depthwise 3x3, grouped 1x1, residual add (arXiv:1707.01083, figure 2b)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.reduce = ConvNormAct(channels, channels, groups=groups)
        self.shuffle = ChannelShuffle(groups)
        self.depthwise = ConvNormAct(channels, channels, 3, groups=channels, activation=None)
        self.expand = ConvNormAct(channels, channels, groups=groups, activation=None)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.expand(self.depthwise(self.shuffle(self.reduce(x)))))


class SplitUnit(nn.Module):
    """ShuffleNet v2: split, one half through 1x1, depthwise 3x3, 1x1, concat, shuffle (arXiv:1807.11164, figure 3c)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.split = ChannelSplit()
        self.branch = nn.Sequential(
            ConvNormAct(half, half),
            ConvNormAct(half, half, 3, groups=half, activation=None),
            ConvNormAct(half, half),
        )
        self.concat = Concat()
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.split(x)
        return self.shuffle(self.concat(left, self.branch(right)))


class DownUnit(nn.Module):
    """ShuffleNet v2 unit that halves the image and doubles the channels (arXiv:1807.11164, figure 3d)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.left = nn.Sequential(
            ConvNormAct(channels, channels, 3, stride=2, groups=channels, activation=None),
            ConvNormAct(channels, channels),
        )
        self.right = nn.Sequential(
            ConvNormAct(channels, channels),
            ConvNormAct(channels, channels, 3, stride=2, groups=channels, activation=None),
            ConvNormAct(channels, channels),
        )
        self.concat = Concat()
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.concat(self.left(x), self.right(x)))


class InvertedResidual(nn.Module):
    """MobileNet v2 block: 1x1 expansion, depthwise 3x3, linear 1x1, residual add (arXiv:1801.04381, figure 4d)."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = ConvNormAct(channels, wide, activation=nn.ReLU6)
        self.depthwise = ConvNormAct(wide, wide, 3, groups=wide, activation=nn.ReLU6)
        self.project = ConvNormAct(wide, channels, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(self.depthwise(self.expand(x)))


def separable(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """MobileNet v1 block: depthwise 3x3, then 1x1, both with ReLU6 (arXiv:1704.04861, figure 3)."""
    return nn.Sequential(
        ConvNormAct(inputs, inputs, 3, stride=stride, groups=inputs, activation=nn.ReLU6),
        ConvNormAct(inputs, outputs, activation=nn.ReLU6),
    )


class Classifier(nn.Module):
    """A feature extractor, global average pooling and one linear layer to the ten logits."""

    def __init__(self, features: nn.Sequential, channels: int) -> None:
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.flatten(self.pool(self.features(x))))


def digits_cnn() -> Classifier:
    """A plain network around one 3x3 convolution from 47 to 94 channels, awkward on 32x32 blocks on purpose."""
    features = nn.Sequential(
        ConvNormAct(1, 47, 3),
        ConvNormAct(47, 94, 3),
        nn.MaxPool2d(2),
        ConvNormAct(94, 32),
        ConvNormAct(32, 48, 3),
    )
    return Classifier(features, 48)


def digits_shufflenet() -> Classifier:
    """One ShuffleNet v1 unit, one v2 unit with stride and three v2 units in a row."""
    features = nn.Sequential(
        ConvNormAct(1, 32, 3),
        GroupedUnit(32, groups=4),
        DownUnit(32),
        SplitUnit(64),
        SplitUnit(64),
        SplitUnit(64),
        ConvNormAct(64, 96),
    )
    return Classifier(features, 96)


def digits_depthwise() -> Classifier:
    """MobileNet v1 and v2 blocks with ReLU6 and residual adds."""
    features = nn.Sequential(
        ConvNormAct(1, 24, 3, activation=nn.ReLU6),
        separable(24, 40),
        InvertedResidual(40, expansion=3),
        separable(40, 64, stride=2),
        InvertedResidual(64, expansion=3),
        ConvNormAct(64, 96, activation=nn.ReLU6),
    )
    return Classifier(features, 96)


NETWORKS = {"digits_cnn": digits_cnn, "digits_shufflenet": digits_shufflenet, "digits_depthwise": digits_depthwise}
