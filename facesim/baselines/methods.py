"""The classical methods. Each takes grey training images, float32 (n, height, width) in 0-1, their labels, int32 (n,),
test images and a seed, and returns what it takes the test images for, int32.
"""

import numpy as np
from skimage.feature import hog, local_binary_pattern
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

_COMPONENTS = 150
_CELLS = 8
_PATTERNS = 59  # of 8 neighbours: 58 with at most two changes around the circle, and all others


def grey(images: np.ndarray) -> np.ndarray:
    """uint8 (n, height, width, channels) as float32 (n, height, width) in 0-1, weighted as the eye does (BT.601)."""
    if images.shape[-1] == 1:
        return images[..., 0].astype(np.float32) / 255
    return images.astype(np.float32) @ (np.array([0.299, 0.587, 0.114], np.float32) / 255)


def eigenfaces(images: np.ndarray, labels: np.ndarray, tests: np.ndarray, seed: int) -> np.ndarray:
    components = PCA(min(_COMPONENTS, len(images) - 1), random_state=seed)
    model = make_pipeline(components, KNeighborsClassifier(1))
    return model.fit(_flat(images), labels).predict(_flat(tests))


def fisherfaces(images: np.ndarray, labels: np.ndarray, tests: np.ndarray, seed: int) -> np.ndarray:
    """As many components as leave the scatter within identities regular: images less identities, as published."""
    identities = len(np.unique(labels))
    components = PCA(max(1, min(_COMPONENTS, len(images) - identities)), random_state=seed)
    model = make_pipeline(components, LinearDiscriminantAnalysis())
    return model.fit(_flat(images), labels).predict(_flat(tests))


def lbp_svm(images: np.ndarray, labels: np.ndarray, tests: np.ndarray, seed: int) -> np.ndarray:
    """A histogram of uniform patterns (8 neighbours at 1 pixel) in each of 8x8 cells."""
    return _svm(_patterns(images), labels, _patterns(tests), seed)


def hog_svm(images: np.ndarray, labels: np.ndarray, tests: np.ndarray, seed: int) -> np.ndarray:
    """9 orientations in 8x8 cells, normalised in blocks of 2x2."""
    return _svm(_gradients(images), labels, _gradients(tests), seed)


def _svm(features: np.ndarray, labels: np.ndarray, tests: np.ndarray, seed: int) -> np.ndarray:
    return LinearSVC(C=1.0, random_state=seed).fit(features, labels).predict(tests)


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def _patterns(images: np.ndarray) -> np.ndarray:
    """Square roots of histograms (n, cells * patterns): between them a linear kernel is the Hellinger kernel."""
    bytes_ = (images * 255).astype(np.uint8)
    codes = np.stack([local_binary_pattern(image, 8, 1, "nri_uniform").astype(np.int64) for image in bytes_])
    height, width = codes.shape[1:]
    rows, columns = np.arange(height) * _CELLS // height, np.arange(width) * _CELLS // width
    cell = rows[:, None] * _CELLS + columns
    bins = _CELLS**2 * _PATTERNS
    counts = np.stack([np.bincount((cell * _PATTERNS + code).ravel(), minlength=bins) for code in codes])
    return np.sqrt(counts / (height * width / _CELLS**2))


def _gradients(images: np.ndarray) -> np.ndarray:
    cell = (images.shape[1] // _CELLS, images.shape[2] // _CELLS)
    return np.stack([hog(image, orientations=9, pixels_per_cell=cell, cells_per_block=(2, 2)) for image in images])
