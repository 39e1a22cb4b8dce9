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
                }[variant]
                if g[i, j] != 0 and 2 * g[i, j] ** 2 + third != 0:
                    alpha[i, j] = g[i, j] ** 2 / (2 * g[i, j] ** 2 + third)
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
