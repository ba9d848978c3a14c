"""What Image-Local-Attention computes, as its definition says, on any device; forward only. For tests: it stands for the CUDA kernels.

A window of kH x kW places of `x_loc` lies around each place of `x_ori`, by its share of the height and width; outside is 0.
"""

import torch
import torch.nn.functional as F


def _windows(x, kH: int, kW: int, height: int, width: int):
    """[N, C, h, w] -> [N, C, kH * kW, height, width]: the window of each of height x width places."""
    n, c, h, w = x.shape
    around = F.unfold(x, (kH, kW), padding=(kH // 2, kW // 2)).view(n, c, kH * kW, h, w)
    rows, columns = (torch.arange(size) * own // size for size, own in ((height, h), (width, w)))
    return around[:, :, :, rows][..., columns]


def similar_forward(x_ori, x_loc, kH: int, kW: int, casual_mask: bool = False):
    """[N, H, W, kH * kW]: products of each place with its window."""
    if casual_mask:
        raise NotImplementedError("CogView2 asks for no causal mask")
    return torch.einsum("nchw,nckhw->nhwk", x_ori, _windows(x_loc, kH, kW, *x_ori.shape[2:])).contiguous()


def weighting_forward(x_ori, x_weight, kH: int, kW: int, casual_mask: bool = False):
    """[N, C, H, W]: sums of windows of x_ori, weighted by x_weight [N, H, W, kH * kW]."""
    if casual_mask:
        raise NotImplementedError("CogView2 asks for no causal mask")
    return torch.einsum("nckhw,nhwk->nchw", _windows(x_ori, kH, kW, *x_weight.shape[1:3]), x_weight).contiguous()


def _no_training(*_):
    raise NotImplementedError("forward only")


similar_backward = weighting_backward_ori = weighting_backward_weight = _no_training
