"""The LRP rules as the papers print them: sums over i and j in float64 NumPy, one image at a time.

A linear layer is its matrix: x `[I]`, w `[I, J]`, R at its outputs `[J]` -> R at its inputs `[I]`.
"""

import numpy as np

plus = lambda a: np.maximum(a, 0)
minus = lambda a: np.minimum(a, 0)


def conv_matrix(shape, kernel, stride=1, padding=0, dilation=1, groups=1):
    """The matrix of convolving `[h, w, c]` with `[kh, kw, c / groups, o]`; its output's shape."""
    h, w, c = shape
    kh, kw, per_group, o = kernel.shape
    oh = (h + 2 * padding - dilation * (kh - 1) - 1) // stride + 1
    ow = (w + 2 * padding - dilation * (kw - 1) - 1) // stride + 1
    matrix = np.zeros((h, w, c, oh, ow, o))
    for i, j, a, b in np.ndindex(oh, ow, kh, kw):
        y, x = i * stride + a * dilation - padding, j * stride + b * dilation - padding
        if 0 <= y < h and 0 <= x < w:
            for out in range(o):
                group = out // (o // groups)
                channels = slice(group * per_group, (group + 1) * per_group)
                matrix[y, x, channels, i, j, out] += kernel[a, b, :, out]
    return matrix.reshape(h * w * c, -1), (oh, ow, o)


def proportional(p, R, eps=0.0):
    """R_i = sum_j p_ij / (sum_i p_ij + eps sign) R_j, a column that sums to 0 giving nothing."""
    out = np.zeros(p.shape[0])
    for j in range(p.shape[1]):
        z = p[:, j].sum()
        if z != 0:
            out += p[:, j] / (z + eps * np.sign(z)) * R[j]
    return out


def lrp_0(x, w, R):
    return proportional(x[:, None] * w, R)


def epsilon(x, w, R, eps):
    return proportional(x[:, None] * w, R, eps)


def z_plus(x, w, R):
    return proportional(plus(x[:, None] * w), R)


def alpha_beta(x, w, R, alpha, beta):
    p = x[:, None] * w
    return alpha * proportional(plus(p), R) - beta * proportional(minus(p), R)


def gamma(x, w, R, g):
    p = x[:, None] * w
    y = p.sum(0)
    more = np.where(y > 0, plus(p), minus(p))
    return proportional(p + g * more, R)


def flat(x, w, R):
    """Over the receptive field: `w` is the matrix of a kernel without zeros."""
    return proportional((w != 0).astype(float), R)


def or_flat(p, w, R):
    """p in proportion, and flat for the columns that sum to 0."""
    lost = np.where(p.sum(0) == 0, R, 0)
    return proportional(p, R) + flat(None, w, lost)


def w_square(x, w, R):
    return proportional(w**2, R)


def z_box(x, w, R, low, high):
    return proportional(x[:, None] * w - low * plus(w) - high * minus(w), R)


def doubles(modules):
    """Parameters by module and name."""
    found = {}
    for module, named in modules.items():
        found[module] = {name: np.asarray(value, np.float64) for name, value in named.items()}
    return found


def network(variables, image, start):
    """R by z+ at the pixels, at "stem" and at "top" of `tests.nets.tiny`, and the logits.

    Every step as the papers print it; `start` makes of the logits what enters there.
    """
    p, s = doubles(variables["params"]), doubles(variables["batch_stats"])
    first, shape1 = conv_matrix(image.shape, p["conv1"]["kernel"], padding=1)
    a1 = np.asarray(image, np.float64).ravel()
    y1 = (a1 @ first).reshape(shape1)
    scale = p["bn"]["scale"] / np.sqrt(s["bn"]["var"] + 1e-5)
    stem = plus((y1 + p["conv1"]["bias"] - s["bn"]["mean"]) * scale + p["bn"]["bias"])
    h, w, c = stem.shape
    windows = stem.reshape(h // 2, 2, w // 2, 2, c)
    pooled = windows.max((1, 3))
    second, shape2 = conv_matrix(pooled.shape, p["conv2"]["kernel"], padding=1)
    top = plus((pooled.ravel() @ second).reshape(shape2) + p["conv2"]["bias"])
    mean = top.mean((0, 1))
    logits = mean @ p["head"]["kernel"] + p["head"]["bias"]

    at_mean = z_plus(mean, p["head"]["kernel"], start(logits))
    total = top.sum((0, 1))
    at_top = top * np.divide(at_mean, total, out=np.zeros_like(total), where=total != 0)
    at_pooled = z_plus(pooled.ravel(), second, at_top.ravel()).reshape(pooled.shape)
    winners = (windows == pooled[:, None, :, None]) & (windows > 0)
    at_stem = (winners * at_pooled[:, None, :, None]).reshape(stem.shape)
    at_pixels = z_plus(a1, first, at_stem.ravel()).reshape(image.shape)
    return {"top": at_top, "stem": at_stem, "pixels": at_pixels}, logits
