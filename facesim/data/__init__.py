"""Faces to train and test on: where they come from, how they are split, and one prepared form for every task.

`prepare` turns rendered faces, a public data set or a user's own folder into a `PreparedData` folder of raw bytes;
`stratified_split` says which of its images are held out. TensorFlow is not needed here, and Pillow and scikit-learn are
imported only when an image is decoded or a data set is fetched.
"""

from facesim.data.decode import BadFile
from facesim.data.describe import Description, describe
from facesim.data.layouts import Example, find_examples
from facesim.data.prepare import prepare
from facesim.data.prepared import PreparedData
from facesim.data.rendering import RENDERER_VERSION, RenderSpec, render, render_folder
from facesim.data.sources import DATASETS, Content, Source, from_arrays
from facesim.data.splits import split_of, stratified_split
from facesim.data.tables import read_csv
from facesim.util.unused import Unused

__all__ = [
    "DATASETS",
    "RENDERER_VERSION",
    "BadFile",
    "Content",
    "Description",
    "Example",
    "PreparedData",
    "RenderSpec",
    "Source",
    "Unused",
    "describe",
    "find_examples",
    "from_arrays",
    "prepare",
    "read_csv",
    "render",
    "render_folder",
    "split_of",
    "stratified_split",
]
