"""The CAM formulas as the papers print them.

Loops over float64 NumPy, one image at a time, `[h, w, c]` -> `[h, w]`.
"""

import numpy as np


def relu(x):
    return np.maximum(x, 0)


def grad_cam(A, G):
    h, w, c = A.shape
    total = np.zeros((h, w))
    for k in range(c):
        total += G[:, :, k].sum() / (h * w) * A[:, :, k]
    return relu(total)


def grad_cam_channel(A, G):
    h, w, c = A.shape
    return sum(relu(G[:, :, k].sum() / (h * w) * A[:, :, k]) for k in range(c))


def grad_cam_plus_plus(A, G, variant="paper"):
    h, w, c = A.shape
    total = np.zeros((h, w))
    for k in range(c):
        a, g = A[:, :, k], G[:, :, k]
        alpha = np.zeros((h, w))
        for i in range(h):
            for j in range(w):
                third = {
                    "paper": a.sum() * g[i, j] ** 3,
                    "official": a.sum() * g[i, j] ** 3,
                    "rcam": (a * g**3).sum(),
                    "jacobgil": a.sum() * g[i, j] ** 3 + 1e-6,
                    "xplique": a.mean() * g[i, j] ** 3,
                    "torchcam": 0.0,
                }[variant]
                if g[i, j] != 0 and 2 * g[i, j] ** 2 + third != 0:
                    alpha[i, j] = g[i, j] ** 2 / (2 * g[i, j] ** 2 + third)
        if variant == "torchcam":
            alpha = g**2  # what is divided there is a copy
        if variant == "official" and (g > 0).any():
            alpha /= alpha[g > 0].sum()
        weight = (alpha * relu(g)).sum() / (h * w if variant == "xplique" else 1)
        total += weight * a
    return relu(total)


def hires_cam(A, G):
    return sum(G[:, :, k] * A[:, :, k] for k in range(A.shape[2]))


def xgrad_cam(A, G):
    total = np.zeros(A.shape[:2])
    for k in range(A.shape[2]):
        if A[:, :, k].sum() != 0:
            total += (G[:, :, k] * A[:, :, k]).sum() / A[:, :, k].sum() * A[:, :, k]
    return relu(total)


def layer_cam(A, G):
    return relu(sum(relu(G[:, :, k]) * A[:, :, k] for k in range(A.shape[2])))


def eigen_cam(A, center=False):
    h, w, c = A.shape
    rows = A.reshape(h * w, c)
    rows = rows - rows.mean(0) if center else rows
    vector = np.linalg.eigh(rows.T @ rows)[1][:, -1]
    flat = (rows @ vector).reshape(h, w)
    return flat if (flat * A.mean(-1)).sum() >= 0 else -flat


def bilinear(small, H, W, align_corners=False):
    """Upsampling, pixel by pixel."""
    h, w = small.shape
    out = np.zeros((H, W))
    for i in range(H):
        for j in range(W):
            y = (
                i * (h - 1) / (H - 1)
                if align_corners
                else np.clip((i + 0.5) * h / H - 0.5, 0, h - 1)
            )
            x = (
                j * (w - 1) / (W - 1)
                if align_corners
                else np.clip((j + 0.5) * w / W - 0.5, 0, w - 1)
            )
            y0, x0 = min(int(y), h - 1), min(int(x), w - 1)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            top = small[y0, x0] * (1 - (x - x0)) + small[y0, x1] * (x - x0)
            low = small[y1, x0] * (1 - (x - x0)) + small[y1, x1] * (x - x0)
            out[i, j] = top * (1 - (y - y0)) + low * (y - y0)
    return out


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def score_cam(A, image, model, target, variant="official"):
    """`model`: image [H, W, 3] -> logits [N]."""
    scores = []
    for k in range(A.shape[2]):
        mask = bilinear(A[:, :, k], *image.shape[:2], align_corners=variant == "jacobgil")
        spread = mask.max() - mask.min() + (1e-8 if variant == "jacobgil" else 0)
        mask = (mask - mask.min()) / spread if spread else np.zeros_like(mask)
        logits = model(image * mask[:, :, None])
        baseline = model(image * 0)[target] if variant == "paper" else 0
        constant = A[:, :, k].max() == A[:, :, k].min()
        if variant == "official":
            scores.append(0 if constant else softmax(logits)[target])
        else:
            scores.append(logits[target] - baseline)
    weights = np.array(scores) if variant == "official" else softmax(np.array(scores))
    return relu((A * weights).sum(-1))


def ablation_cam(A, head, target):
    """`head`: activations [h, w, c] -> logits [N]."""
    full, total = head(A)[target], np.zeros(A.shape[:2])
    for k in range(A.shape[2]):
        without = A.copy()
        without[:, :, k] = 0
        total += (full - head(without)[target]) / abs(full) * A[:, :, k]
    return relu(total)


def smooth_grad_cam_plus_plus(A, gradients, variant="second"):
    """`gradients`: one [h, w, c] for each noisy image."""
    h, w, c = A.shape
    first, second, third = (sum(G**p for G in gradients) / len(gradients) for p in (1, 2, 3))
    total = np.zeros((h, w))
    for k in range(c):
        weight = 0.0
        for i in range(h):
            for j in range(w):
                below = 2 * second[i, j, k] + A[:, :, k].sum() * third[i, j, k]
                if variant == "torchcam":
                    below = 2 * second[i, j, k] + (A[:, :, k] * third[:, :, k]).sum()
                if below != 0:
                    above = first[i, j, k] if variant == "paper" else second[i, j, k]
                    weight += above / below * relu(first[i, j, k])
        total += weight * A[:, :, k]
    return relu(total)


def shapley_cam(A, G, HA):
    h, w, c = A.shape
    total = np.zeros((h, w))
    for k in range(c):
        total += (G[:, :, k] - HA[:, :, k] / 2).sum() / (h * w) * A[:, :, k]
    return relu(total)


def finer_score(z, target, count=3, strength=1.0, weighting="probability"):
    others = sorted((d for d in range(len(z)) if d != target), key=lambda d: abs(z[d] - z[target]))
    others = others[:count]
    p = softmax(z)
    shares = [p[d] if weighting == "probability" else 1.0 for d in others]
    terms = [q * (z[target] - strength * z[d]) for q, d in zip(shares, others, strict=True)]
    return sum(terms) / sum(shares)


def fem(A, k=2.0, jacobgil=False):
    total = np.zeros(A.shape[:2])
    for c in range(A.shape[2]):
        a = A[:, :, c]
        bound = a.mean() + k * a.std()
        if jacobgil:
            total += (a > bound).mean() * a
        elif a.std() > 0:
            total += a.mean() * (a >= bound)
    return total


def kpca_cam(A, kernel="sigmoid", gamma=None):
    h, w, c = A.shape
    rows = A.reshape(h * w, c)
    rows = rows - rows.mean(0)
    gamma = gamma or 1 / c
    functions = {
        "linear": lambda x, y: x @ y,
        "sigmoid": lambda x, y: np.tanh(gamma * (x @ y) + 1),
        "rbf": lambda x, y: np.exp(-gamma * ((x - y) ** 2).sum()),
    }
    K = np.array([[functions[kernel](x, y) for y in rows] for x in rows])
    ones = np.full(K.shape, 1 / len(K))
    K = K - ones @ K - K @ ones + ones @ K @ ones
    values, vectors = np.linalg.eigh(K)
    flat = (np.sqrt(values[-1]) * vectors[:, -1]).reshape(h, w)
    return flat if (flat * A.mean(-1)).sum() >= 0 else -flat


def unit(mask):
    spread = mask.max() - mask.min()
    return (mask - mask.min()) / spread if spread else np.zeros_like(mask)


def masked_scores(A, image, model, target, versions, before=False):
    """`versions`: (a channel, its number) -> [(mask before scaling, factor)]."""
    means = []
    for k in range(A.shape[2]):
        found = []
        channel = unit(A[:, :, k]) if before else A[:, :, k]
        for raw, factor in versions(channel, k):
            mask = bilinear(raw, *image.shape[:2])
            mask = mask if before else unit(mask)
            found.append(model(factor * image * mask[:, :, None])[target])
        means.append(np.mean(found))
    return relu((A * softmax(np.array(means))).sum(-1))


def psi(term, size, rescale):
    """FullGrad's, of [h, w, c]."""
    found = np.abs(term)
    axes = {"layer": (0, 1, 2), "channel": (0, 1)}
    if rescale:
        low = found.min(axes[rescale], keepdims=True)
        high = found.max(axes[rescale], keepdims=True)
        found = np.divide(found - low, high - low, where=high > low, out=found * 0)
    return sum(bilinear(found[:, :, k], *size) for k in range(found.shape[2]))
