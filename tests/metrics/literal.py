"""Metrics as the papers and their code have them: float64 NumPy loops, one example at a time."""

import numpy as np


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def min_max(s):
    return (s - s.min()) / (s.max() - s.min()) if s.max() > s.min() else np.zeros_like(s)


def average_drop(model, image, saliency, target, mask):
    """`model`: image [H, W, C] -> logits [N]; `mask`: saliency -> mask."""
    full = softmax(model(image))[target]
    masked = softmax(model(image * mask(saliency)[:, :, None]))[target]
    return 100 * max(0, full - masked) / full, 100 * (full < masked)


def top_half(saliency):
    """As the re-evaluation of Relevance-CAM: strictly above the value at half of the pixels."""
    values = sorted(saliency.ravel(), reverse=True)
    return (saliency > values[saliency.size // 2 - 1]).astype(float)


def order(saliency):
    """RISE: argsort, flipped."""
    return np.flip(np.argsort(saliency.ravel(), kind="stable"))


def game(model, start, end, saliency, target, step):
    """Pixels of `start` become those of `end`, most salient first; confidence after each step."""
    H, W, _ = start.shape
    current, ranked = start.copy(), order(saliency)
    steps = (H * W + step - 1) // step
    curve = [softmax(model(current))[target]]
    for i in range(steps):
        for pixel in ranked[i * step : (i + 1) * step]:
            current[pixel // W, pixel % W] = end[pixel // W, pixel % W]
        curve.append(softmax(model(current))[target])
    return np.array(curve)


def auc(curve):
    return (curve.sum() - curve[0] / 2 - curve[-1] / 2) / (len(curve) - 1)


def blur(image):
    """RISE: SciPy's Gaussian filter of a delta in 11 x 11, then a convolution, zeros outside."""
    from scipy.ndimage import gaussian_filter

    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    kernel = gaussian_filter(delta, 5)
    H, W, C = image.shape
    padded = np.pad(image, ((5, 5), (5, 5), (0, 0)))
    out = np.zeros_like(image)
    for i in range(H):
        for j in range(W):
            for c in range(C):
                out[i, j, c] = (padded[i : i + 11, j : j + 11, c] * kernel).sum()
    return out


def filled(boxes, H, W):
    """Boxes (xmin, ymin, xmax, ymax), inclusive."""
    out = np.zeros((H, W), bool)
    for xmin, ymin, xmax, ymax in boxes:
        for y in range(H):
            for x in range(W):
                out[y, x] |= xmin <= x <= xmax and ymin <= y <= ymax
    return out


def iou(marked, inside):
    both = either = 0
    for a, b in zip(marked.ravel(), inside.ravel(), strict=True):
        both += a and b
        either += a or b
    return both / either


def mask_iou(saliency, boxes, k=1.0):
    return iou(saliency > saliency.mean() + k * saliency.std(), filled(boxes, *saliency.shape))


def loc(saliency, boxes, delta):
    inside = filled(boxes, *saliency.shape)
    marked = min_max(saliency) > delta
    internal, external = (marked & inside).sum(), (marked & ~inside).sum()
    return internal / (inside.sum() + external)


def pointing(saliency, boxes, tolerance=0):
    y, x = np.unravel_index(np.argmax(saliency), saliency.shape)
    inside = filled(boxes, *saliency.shape)
    return float(any(np.hypot(y - v, x - u) <= tolerance for v, u in np.argwhere(inside)))


def energy(saliency, boxes):
    positive = np.maximum(saliency, 0)
    return positive[filled(boxes, *saliency.shape)].sum() / positive.sum()


def box_from_map(saliency, fraction=0.2):
    """Flood fill of 8 neighbours."""
    marked = saliency > fraction * saliency.max()
    seen, best = np.zeros_like(marked), []
    for seed in np.argwhere(marked):
        stack, found = [tuple(seed)], []
        while stack:
            y, x = stack.pop()
            if (
                0 <= y < marked.shape[0]
                and 0 <= x < marked.shape[1]
                and marked[y, x]
                and not seen[y, x]
            ):
                seen[y, x] = True
                found.append((y, x))
                stack += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        if len(found) > len(best) or (len(found) == len(best) and found and max(found) > max(best)):
            best = found
    rows, columns = zip(*best, strict=True)
    return min(columns), min(rows), max(columns), max(rows)


def entropy(m):
    p = np.maximum(m, 0) / np.maximum(m, 0).sum()
    return -sum(v * np.log(v) for v in p.ravel() if v > 0)


def area(m):
    p = np.maximum(m, 0) / np.maximum(m, 0).sum()
    points = [(i, j) for i in range(m.shape[0]) for j in range(m.shape[1])]
    mean = sum(p[i, j] * np.array([i, j]) for i, j in points)
    cov = sum(
        p[i, j] * np.outer(np.array([i, j]) - mean, np.array([i, j]) - mean) for i, j in points
    )
    low, high = np.linalg.eigvalsh(cov)
    return np.sqrt(max(low, 0) * high)


def dispersion(m):
    m = np.maximum(m, 0)
    return m.var() / m.mean() ** 2


def pearson(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def adcc(first, again, full, masked):
    """`first`, `again`: maps [H, W]; `full`, `masked`: confidences."""
    coherency = (pearson(first, again) + 1) / 2
    complexity = min_max(first).sum() / first.size
    drop = max(0, full - masked) / full
    return 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop))


def gini(weights):
    """Half the mean difference of two channels, relative to the mean."""
    w = np.abs(weights)
    return sum(abs(a - b) for a in w for b in w) / (2 * len(w) ** 2 * w.mean())


def sim(a, b, n):
    """The first n classes are the same, in the same order."""
    first = sorted(range(len(a)), key=lambda i: -a[i])[:n]
    second = sorted(range(len(b)), key=lambda i: -b[i])[:n]
    return float(first == second)


def impute(image, missing):
    """ROAD's linear imputation: one equation per missing pixel, all of them at once."""
    H, W, C = image.shape
    places = [tuple(place) for place in np.argwhere(missing)]
    A = np.zeros((len(places), len(places)))
    b = np.zeros((len(places), C))
    for i, (y, x) in enumerate(places):
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                inside = 0 <= y + dy < H and 0 <= x + dx < W
                if (dy, dx) == (0, 0) or not inside:
                    continue
                w = 1 / 6 if dy * dx == 0 else 1 / 12
                A[i, i] += w
                if missing[y + dy, x + dx]:
                    A[i, places.index((y + dy, x + dx))] -= w
                else:
                    b[i] += w * image[y + dy, x + dx]
    out = image.copy()
    out[missing] = np.linalg.solve(A, b)
    return out


def road(model, image, saliency, target, percent):
    """Confidences with the most and with the least relevant percentages imputed."""
    H, W, _ = image.shape
    ranked = order(saliency)
    curves = []
    for places in (ranked, ranked[::-1]):
        for q in percent:
            missing = np.zeros(H * W, bool)
            missing[places[: round(q / 100 * H * W)]] = True
            filled = impute(image, missing.reshape(H, W))
            curves.append(softmax(model(filled))[target])
    return np.array(curves).reshape(2, len(percent))


def infidelity(model, image, saliency, changes, scaled):
    """`model`: image -> f; `changes`: I, [S, H, W, C]."""
    told = np.array([sum((saliency[..., None] * change).ravel()) for change in changes])
    lost = np.array([model(image) - model(image - change) for change in changes])
    if scaled:
        told = told * (told @ lost) / (told @ told)
    return np.mean((told - lost) ** 2)


def region_perturbation(model, image, other, saliency, target, side, steps):
    """Squares of a grid, by descending sum of saliency."""
    H, W, _ = image.shape
    corners = [(y, x) for y in range(0, H, side) for x in range(0, W, side)]
    score = lambda at: saliency[at[0] : at[0] + side, at[1] : at[1] + side].sum()
    current = image.copy()
    curve = [softmax(model(current))[target]]
    for y, x in sorted(corners, key=score, reverse=True)[:steps]:
        current[y : y + side, x : x + side] = other[y : y + side, x : x + side]
        curve.append(softmax(model(current))[target])
    return np.array(curve)
