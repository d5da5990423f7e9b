"""Which people are alike: whom of a calibration somebody could be mistaken for at all."""

import numpy as np
import numpy.typing as npt


def alike(embeddings: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Tell which people are alike: of each, the nearer half of all others, by the means of their embeddings.

    Hardly anybody is mistaken for somebody of the other sex, so among men and women alike half of the pairs of two
    people are safe, and a false match rate of all pairs is half of the one among men. Nobody has to say who is which:
    nearly all false matches lie in the nearer half.

    Args:
        embeddings: (N, D) of unit length.
        labels: (N,) who it is, 0 to P - 1, each at least once; P at least 2.

    Returns:
        (P, P) bool, symmetric, False on the diagonal: either of the two has the other in the nearer half.
    """
    sums = np.zeros((int(labels.max()) + 1, embeddings.shape[1]))
    np.add.at(sums, labels, embeddings)
    means = sums / np.bincount(labels)[:, None]
    means -= means.mean(axis=0)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    means /= np.where(lengths > 0, lengths, 1)
    likeness = means @ means.T
    np.fill_diagonal(likeness, -np.inf)
    others = len(means) - 1
    nearer = -(-others // 2)
    least = np.sort(likeness, axis=1)[:, len(means) - nearer][:, None]
    near = likeness >= least
    found: npt.NDArray[np.bool_] = near | near.T
    return found
